;; Writes its payload to standard output, and gives how many directories it was given.
(import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
  (func $write (param $stream i32) (param $at i32) (param $length i32) (param $result i32)))
(import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $directories (param $result i32)))

(func (export "run") (param $kind i32) (param $at i32) (param $length i32) (result i32)
  (call $write (call $stdout) (local.get $at) (local.get $length) (i32.const 64))
  (call $directories (i32.const 96))
  (i32.store8 (i32.const 128) (i32.add (i32.load (i32.const 100)) (i32.const 48)))
  (i32.store8 (i32.const 16) (i32.const 0))
  (i32.store8 (i32.const 20) (i32.const 0))
  (i32.store (i32.const 24) (i32.const 128))
  (i32.store (i32.const 28) (i32.const 1))
  (i32.const 16))
