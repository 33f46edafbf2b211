;; Tries to look up the name in its payload, then to make a TCP and a UDP socket. Gives, for each, whether it failed, and
;; the code of the error.
(import "wasi:sockets/instance-network@0.2.0" "instance-network" (func $network (result i32)))
(import "wasi:sockets/ip-name-lookup@0.2.0" "resolve-addresses"
  (func $resolve (param $network i32) (param $name i32) (param $length i32) (param $result i32)))
(import "wasi:sockets/tcp-create-socket@0.2.0" "create-tcp-socket"
  (func $tcp (param $family i32) (param $result i32)))
(import "wasi:sockets/udp-create-socket@0.2.0" "create-udp-socket"
  (func $udp (param $family i32) (param $result i32)))

;; Copies the two bytes of a result that is an error code: the discriminants of both.
(func $copy (param $from i32) (param $to i32)
  (i32.store8 (local.get $to) (i32.load8_u (local.get $from)))
  (i32.store8 offset=1 (local.get $to) (i32.load8_u offset=4 (local.get $from))))

(func (export "run") (param $kind i32) (param $at i32) (param $length i32) (result i32)
  (call $resolve (call $network) (local.get $at) (local.get $length) (i32.const 64))
  (call $copy (i32.const 64) (i32.const 128))
  (call $tcp (i32.const 0) (i32.const 64))
  (call $copy (i32.const 64) (i32.const 130))
  (call $udp (i32.const 0) (i32.const 64))
  (call $copy (i32.const 64) (i32.const 132))
  (i32.store8 (i32.const 16) (i32.const 0))
  (i32.store8 (i32.const 20) (i32.const 1))
  (i32.store (i32.const 24) (i32.const 128))
  (i32.store (i32.const 28) (i32.const 6))
  (i32.const 16))
