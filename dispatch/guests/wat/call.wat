;; Calls the function whose id is the first line of its payload, with the JSON that follows the second line, and the options
;; in the second line if that is not empty. Gives what it gives.
(import "frame:function/functions@0.1.0" "call"
  (func $call
    (param $id i32) (param $id_length i32)
    (param $kind i32) (param $payload i32) (param $payload_length i32)
    (param $has_options i32) (param $options i32) (param $options_length i32)
    (param $result i32)))

;; Where the line that begins at `at` ends.
(func $line (param $at i32) (result i32)
  (block $end
    (loop $next
      (br_if $end (i32.eq (i32.load8_u (local.get $at)) (i32.const 10)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next)))
  (local.get $at))

(func (export "run") (param $kind i32) (param $at i32) (param $length i32) (result i32)
  (local $id_end i32) (local $options i32) (local $options_end i32) (local $payload i32)
  (local.set $id_end (call $line (local.get $at)))
  (local.set $options (i32.add (local.get $id_end) (i32.const 1)))
  (local.set $options_end (call $line (local.get $options)))
  (local.set $payload (i32.add (local.get $options_end) (i32.const 1)))
  (call $call
    (local.get $at) (i32.sub (local.get $id_end) (local.get $at))
    (i32.const 0)
    (local.get $payload) (i32.sub (i32.add (local.get $at) (local.get $length)) (local.get $payload))
    (i32.ne (local.get $options) (local.get $options_end))
    (local.get $options) (i32.sub (local.get $options_end) (local.get $options))
    (i32.const 16))
  ;; It is laid out as the result of `run` is.
  (i32.const 16))
