;; Keeps its payload where the next call in the same instance would find it, waits for the host, and gives what it found
;; there: first how many calls were before it, then as many bytes as its payload has, of what those left, and then
;; its payload as it is after the wait.
(import "frame:guests/host" "wait" (func $wait))
(global $calls (mut i32) (i32.const 0))
(func (export "run") (param $kind i32) (param $at i32) (param $length i32) (result i32)
  (local $result i32)
  (local.set $result
    (call $realloc
      (i32.const 0) (i32.const 0) (i32.const 4)
      (i32.add (i32.const 4) (i32.shl (local.get $length) (i32.const 1)))))
  (i32.store (local.get $result) (global.get $calls))
  (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
  ;; What was left at 512.
  (memory.copy (i32.add (local.get $result) (i32.const 4)) (i32.const 512) (local.get $length))
  (memory.copy (i32.const 512) (local.get $at) (local.get $length))
  (call $wait)
  (memory.copy
    (i32.add (i32.add (local.get $result) (i32.const 4)) (local.get $length))
    (i32.const 512)
    (local.get $length))
  (i32.store8 (i32.const 16) (i32.const 0))
  (i32.store8 (i32.const 20) (i32.const 1))
  (i32.store (i32.const 24) (local.get $result))
  (i32.store (i32.const 28) (i32.add (i32.const 4) (i32.shl (local.get $length) (i32.const 1))))
  (i32.const 16))
