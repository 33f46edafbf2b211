;; Gives the second message that it receives.
(import "frame:function/processes@0.1.0" "receive"
  (func $receive (param $has_timeout i32) (param $timeout i64) (param $result i32)))

(func (export "run") (param $kind i32) (param $at i32) (param $length i32) (result i32)
  (call $receive (i32.const 0) (i64.const 0) (i32.const 64))
  (call $receive (i32.const 0) (i64.const 0) (i32.const 64))
  ;; The payload of a message that was sent is 36 bytes into it: behind the discriminants of the result, the option and
  ;; the message, and the option of a sender.
  (i32.store8 (i32.const 16) (i32.const 0))
  (memory.copy (i32.const 20) (i32.const 100) (i32.const 12))
  (i32.const 16))
