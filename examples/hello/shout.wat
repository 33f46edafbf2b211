;; Gives the JSON string that it was given in capitals. `shout.wasm` is made of this by
;; `cargo run -p frame-guests -- examples/hello/shout.wat examples/hello/shout.wasm`.
(func (export "run") (param $kind i32) (param $at i32) (param $length i32) (result i32)
  (local $next i32)
  (local $end i32)
  (local $byte i32)
  (local.set $next (local.get $at))
  (local.set $end (i32.add (local.get $at) (local.get $length)))
  (block $done
    (loop $more
      (br_if $done (i32.ge_u (local.get $next) (local.get $end)))
      (local.set $byte (i32.load8_u (local.get $next)))
      ;; What follows a backslash is part of an escape, which has no capitals.
      (if (i32.eq (local.get $byte) (i32.const 92))
        (then (local.set $next (i32.add (local.get $next) (i32.const 1)))))
      (if
        (i32.and
          (i32.ge_u (local.get $byte) (i32.const 97))
          (i32.le_u (local.get $byte) (i32.const 122)))
        (then (i32.store8 (local.get $next) (i32.sub (local.get $byte) (i32.const 32)))))
      (local.set $next (i32.add (local.get $next) (i32.const 1)))
      (br $more)))
  ;; A `result` is its discriminant, then what is in it: a payload, which is its own discriminant, address and length.
  (i32.store8 (i32.const 16) (i32.const 0))
  (i32.store8 (i32.const 20) (local.get $kind))
  (i32.store (i32.const 24) (local.get $at))
  (i32.store (i32.const 28) (local.get $length))
  (i32.const 16))
