;; Does one thing in its first directory. Its payload is a letter, a path, and, behind a line feed, what else there is:
;;
;;   n          the name of the directory
;;   r path     what is in a file
;;   w path     writes a file, and makes it if it is not there; s target link, m from to; u unlinks, t touches
;;   d          lists it until that fails, lets go of nothing, and gives how often it did not and why it did
;;   l          lists it, and gives the names, each after a letter for what it is and before a line feed
;;   v path     opens it, makes streams that read it until that fails, and gives how often it did not (less 256) and why it did
;;   o path     opens it until it fails, and gives how often it did not and why it did
;;
;; Gives `-` if there is no directory, `!` and a letter (`A` is the first error code) where it fails, else `ok`.
(import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $directories (param i32)))
(import "wasi:filesystem/types@0.2.0" "[method]descriptor.open-at"
  (func $open_at (param i32 i32 i32 i32 i32 i32 i32)))
(import "wasi:filesystem/types@0.2.0" "[method]descriptor.read" (func $read (param i32 i64 i64 i32)))
(import "wasi:filesystem/types@0.2.0" "[method]descriptor.write" (func $write (param i32 i32 i32 i64 i32)))
(import "wasi:filesystem/types@0.2.0" "[method]descriptor.set-times-at"
  (func $set_times_at (param i32 i32 i32 i32 i32 i64 i32 i32 i64 i32 i32)))
(import "wasi:filesystem/types@0.2.0" "[method]descriptor.symlink-at"
  (func $symlink_at (param i32 i32 i32 i32 i32 i32)))
(import "wasi:filesystem/types@0.2.0" "[method]descriptor.rename-at"
  (func $rename_at (param i32 i32 i32 i32 i32 i32 i32)))
(import "wasi:filesystem/types@0.2.0" "[method]descriptor.unlink-file-at"
  (func $unlink_at (param i32 i32 i32 i32)))
(import "wasi:filesystem/types@0.2.0" "[method]descriptor.read-directory"
  (func $read_directory (param i32 i32)))
(import "wasi:filesystem/types@0.2.0" "[method]descriptor.read-via-stream"
  (func $read_via_stream (param i32 i64 i32)))
(import "wasi:filesystem/types@0.2.0" "[method]directory-entry-stream.read-directory-entry"
  (func $read_entry (param i32 i32)))

(data (i32.const 200) "-ok")

(func $give (param $at i32) (param $length i32) (result i32)
  (i32.store8 (i32.const 16) (i32.const 0))
  (i32.store8 (i32.const 20) (i32.const 1))
  (i32.store (i32.const 24) (local.get $at))
  (i32.store (i32.const 28) (local.get $length))
  (i32.const 16))

(func $fail (param $code i32) (result i32)
  (i32.store8 (i32.const 128) (i32.const 33))
  (i32.store8 (i32.const 129) (i32.add (local.get $code) (i32.const 65)))
  (call $give (i32.const 128) (i32.const 2)))

;; Of a result without a value, which is at 96.
(func $done (result i32)
  (if (result i32) (i32.load8_u (i32.const 96))
    (then (call $fail (i32.load8_u (i32.const 97))))
    (else (call $give (i32.const 201) (i32.const 2)))))

(func (export "run") (param $kind i32) (param $at i32) (param $length i32) (result i32)
  (local $end i32) (local $letter i32) (local $root i32) (local $file i32) (local $count i32)
  (local $path i32) (local $path_length i32) (local $rest i32) (local $rest_length i32)
  (local.set $end (i32.add (local.get $at) (local.get $length)))
  (local.set $letter (i32.load8_u (local.get $at)))
  (local.set $path (i32.add (local.get $at) (i32.const 1)))
  (local.set $rest (local.get $path))
  (block $found
    (loop $next
      (br_if $found (i32.ge_u (local.get $rest) (local.get $end)))
      (br_if $found (i32.eq (i32.load8_u (local.get $rest)) (i32.const 10)))
      (local.set $rest (i32.add (local.get $rest) (i32.const 1)))
      (br $next)))
  (local.set $path_length (i32.sub (local.get $rest) (local.get $path)))
  (if (i32.lt_u (local.get $rest) (local.get $end))
    (then (local.set $rest (i32.add (local.get $rest) (i32.const 1)))))
  (local.set $rest_length (i32.sub (local.get $end) (local.get $rest)))

  (call $directories (i32.const 64))
  (if (i32.eqz (i32.load (i32.const 68)))
    (then (return (call $give (i32.const 200) (i32.const 1)))))
  (local.set $root (i32.load (i32.load (i32.const 64))))

  (if (i32.eq (local.get $letter) (i32.const 110)) ;; n
    (then (return (call $give
      (i32.load offset=4 (i32.load (i32.const 64)))
      (i32.load offset=8 (i32.load (i32.const 64)))))))
  (if (i32.eq (local.get $letter) (i32.const 116)) ;; t: both are `now`
    (then
      (call $set_times_at (local.get $root) (i32.const 1) (local.get $path) (local.get $path_length)
        (i32.const 1) (i64.const 0) (i32.const 0) (i32.const 1) (i64.const 0) (i32.const 0) (i32.const 96))
      (return (call $done))))
  (if (i32.eq (local.get $letter) (i32.const 115)) ;; s
    (then
      (call $symlink_at (local.get $root) (local.get $path) (local.get $path_length)
        (local.get $rest) (local.get $rest_length) (i32.const 96))
      (return (call $done))))
  (if (i32.eq (local.get $letter) (i32.const 109)) ;; m
    (then
      (call $rename_at (local.get $root) (local.get $path) (local.get $path_length) (local.get $root)
        (local.get $rest) (local.get $rest_length) (i32.const 96))
      (return (call $done))))
  (if (i32.eq (local.get $letter) (i32.const 117)) ;; u
    (then
      (call $unlink_at (local.get $root) (local.get $path) (local.get $path_length) (i32.const 96))
      (return (call $done))))
  (if (i32.eq (local.get $letter) (i32.const 100)) ;; d
    (then
      (loop $again
        (call $read_directory (local.get $root) (i32.const 96))
        (if (i32.eqz (i32.load8_u (i32.const 96)))
          (then
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (br $again))))
      (drop (call $fail (i32.load8_u (i32.const 100))))
      (i32.store8 (i32.const 128) (local.get $count))
      (return (i32.const 16))))
  (if (i32.eq (local.get $letter) (i32.const 108)) ;; l
    (then
      (call $read_directory (local.get $root) (i32.const 96))
      (if (i32.load8_u (i32.const 96)) (then (return (call $fail (i32.load8_u (i32.const 100))))))
      (local.set $file (i32.load (i32.const 100)))
      (local.set $path (call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 131072)))
      (local.set $rest (local.get $path))
      (loop $again
        (call $read_entry (local.get $file) (i32.const 96))
        (if (i32.load8_u (i32.const 96)) (then (return (call $fail (i32.load8_u (i32.const 100))))))
        (if (i32.load8_u (i32.const 100))
          (then
            (i32.store8 (local.get $rest) (i32.add (i32.load8_u (i32.const 104)) (i32.const 65)))
            (memory.copy (i32.add (local.get $rest) (i32.const 1))
              (i32.load (i32.const 108)) (i32.load (i32.const 112)))
            (local.set $rest
              (i32.add (i32.add (local.get $rest) (i32.const 1)) (i32.load (i32.const 112))))
            (i32.store8 (local.get $rest) (i32.const 10))
            (local.set $rest (i32.add (local.get $rest) (i32.const 1)))
            (br $again))))
      (return (call $give (local.get $path) (i32.sub (local.get $rest) (local.get $path))))))
  (if (i32.eq (local.get $letter) (i32.const 118)) ;; v
    (then
      (call $open_at (local.get $root) (i32.const 1) (local.get $path) (local.get $path_length)
        (i32.const 0) (i32.const 1) (i32.const 96))
      (if (i32.load8_u (i32.const 96)) (then (return (call $fail (i32.load8_u (i32.const 100))))))
      (local.set $file (i32.load (i32.const 100)))
      (loop $again
        (call $read_via_stream (local.get $file) (i64.const 0) (i32.const 96))
        (if (i32.eqz (i32.load8_u (i32.const 96)))
          (then
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (br $again))))
      (drop (call $fail (i32.load8_u (i32.const 100))))
      (i32.store8 (i32.const 128) (i32.sub (local.get $count) (i32.const 256)))
      (return (i32.const 16))))
  (if (i32.eq (local.get $letter) (i32.const 111)) ;; o
    (then
      (loop $again
        (call $open_at (local.get $root) (i32.const 1) (local.get $path) (local.get $path_length)
          (i32.const 0) (i32.const 1) (i32.const 96))
        (if (i32.eqz (i32.load8_u (i32.const 96)))
          (then
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (br $again))))
      (drop (call $fail (i32.load8_u (i32.const 100))))
      (i32.store8 (i32.const 128) (local.get $count))
      (return (i32.const 16))))
  (if (i32.eq (local.get $letter) (i32.const 119)) ;; w: create, truncate; write
    (then
      (call $open_at (local.get $root) (i32.const 1) (local.get $path) (local.get $path_length)
        (i32.const 9) (i32.const 2) (i32.const 96))
      (if (i32.load8_u (i32.const 96)) (then (return (call $fail (i32.load8_u (i32.const 100))))))
      (call $write (i32.load (i32.const 100)) (local.get $rest) (local.get $rest_length) (i64.const 0)
        (i32.const 96))
      (if (i32.load8_u (i32.const 96)) (then (return (call $fail (i32.load8_u (i32.const 104))))))
      (return (call $give (i32.const 201) (i32.const 2)))))
  ;; r
  (call $open_at (local.get $root) (i32.const 1) (local.get $path) (local.get $path_length)
    (i32.const 0) (i32.const 1) (i32.const 96))
  (if (i32.load8_u (i32.const 96)) (then (return (call $fail (i32.load8_u (i32.const 100))))))
  (call $read (i32.load (i32.const 100)) (i64.const 65536) (i64.const 0) (i32.const 96))
  (if (i32.load8_u (i32.const 96)) (then (return (call $fail (i32.load8_u (i32.const 100))))))
  (call $give (i32.load (i32.const 100)) (i32.load (i32.const 104))))
