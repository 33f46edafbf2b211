;; Gives the value of the frame's key that its payload names, as text or as a JSON string: as JSON, or as no bytes if there is none.
(import "frame:function/frame@0.1.0" "get" (func $get (param $name i32) (param $length i32) (param $result i32)))

(func (export "run") (param $kind i32) (param $at i32) (param $length i32) (result i32)
  ;; An option is its discriminant, then address and length: here at 36, 40 and 44.
  (local $quoted i32)
  (local.set $quoted (i32.eq (i32.load8_u (local.get $at)) (i32.const 34)))
  (local.set $at (i32.add (local.get $at) (local.get $quoted)))
  (local.set $length (i32.sub (local.get $length) (i32.shl (local.get $quoted) (i32.const 1))))
  (call $get (local.get $at) (local.get $length) (i32.const 36))
  (i32.store8 (i32.const 16) (i32.const 0))
  (i32.store8 (i32.const 20) (i32.eqz (i32.load8_u (i32.const 36))))
  (if (i32.load8_u (i32.const 36))
    (then
      (i32.store (i32.const 24) (i32.load (i32.const 40)))
      (i32.store (i32.const 28) (i32.load (i32.const 44)))))
  (i32.const 16))
