(memory (export "memory") 1)
(global $top (mut i32) (i32.const 1024))
(func $realloc (export "cabi_realloc")
  (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
  (local $at i32)
  (local.set $at
    (i32.and
      (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
  (global.set $top (i32.add (local.get $at) (local.get $size)))
  (block $fits
    (br_if $fits (i32.le_u (global.get $top) (i32.shl (memory.size) (i32.const 16))))
    (br_if $fits
      (i32.ne
        (memory.grow
          (i32.add
            (i32.shr_u (i32.sub (global.get $top) (i32.shl (memory.size) (i32.const 16))) (i32.const 16))
            (i32.const 1)))
        (i32.const -1)))
    unreachable)
  (local.get $at))
