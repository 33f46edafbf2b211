;; Gives what it was given. A `result` is its discriminant, then what is in it: here a payload, which is its own
;; discriminant, then address and length.
(func (export "run") (param $kind i32) (param $at i32) (param $length i32) (result i32)
  (i32.store8 (i32.const 16) (i32.const 0))
  (i32.store8 (i32.const 20) (local.get $kind))
  (i32.store (i32.const 24) (local.get $at))
  (i32.store (i32.const 28) (local.get $length))
  (i32.const 16))
