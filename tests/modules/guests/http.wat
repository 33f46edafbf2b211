;; Makes requests over HTTP, and gives what came of them.
;;
;; Its payload begins with this, all numbers little-endian and places counted from its own beginning:
;;
;;    0  the method: the case of `wasi:http`'s, or else
;;    4  where its name is, and 8 how long
;;   12  the scheme: the case of `wasi:http`'s
;;   16  where the authority is, and 20 how long
;;   24  where the path is, and 28 how long
;;   32  where the headers are, and 36 how many: each is where the name is, how long, where the value is, how long
;;   40  where the body is, and 44 how long; one of no length is not begun at all
;;   48  the timeouts in nanoseconds, for none all bits: 48 connecting, 56 the first byte, 64 between bytes
;;   72  how many such requests are made at once
;;   76  how it is done, these together: 1 what is read is only counted, 2 waits for the host before each read,
;;       4 sends the first header as a trailer, too, 8 drops the body where it would finish it, 16 drops the responses before
;;       they are there, 32 begins with the trailers of the response, which leaves its body out, 64 waits for the host
;;       before it does anything, 128 does all of it eight times, 256 keeps every handle that it gets of a response, and one
;;       more for each read, as guests do that collect garbage; it has no trailers then
;;
;; What it gives has for each request a byte that says how it ended. 0: there is a response. Then come the status, how
;; many bytes its headers have, and these, as `name: value` in lines; how many bytes the body has, and unless they are only
;; counted the bytes; 1, or if it ended early 0 and one more than the case of its `error-code`, or 0 if there is none; how
;; many bytes the trailers have, and these. 1: there is none. Then comes the case of its `error-code`. 2: the headers were
;; refused. Then comes the case of `header-error`. 3: what else was refused, by a number of this file's.
(import "frame:http-guests/host" "wait" (func $wait))
(import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
(import "wasi:io/poll@0.2.0" "[resource-drop]pollable" (func $drop_pollable (param i32)))
(import "wasi:io/error@0.2.0" "[resource-drop]error" (func $drop_error (param i32)))
(import "wasi:io/streams@0.2.0" "[method]input-stream.blocking-read" (func $read (param i32 i64 i32)))
(import "wasi:io/streams@0.2.0" "[method]input-stream.subscribe" (func $subscribe_input (param i32) (result i32)))
(import "wasi:io/streams@0.2.0" "[resource-drop]input-stream" (func $drop_input (param i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32)))
(import "wasi:io/streams@0.2.0" "[resource-drop]output-stream" (func $drop_output (param i32)))
(import "wasi:http/types@0.2.0" "[static]fields.from-list" (func $from_list (param i32 i32 i32)))
(import "wasi:http/types@0.2.0" "[method]fields.entries" (func $entries (param i32 i32)))
(import "wasi:http/types@0.2.0" "[resource-drop]fields" (func $drop_fields (param i32)))
(import "wasi:http/types@0.2.0" "[constructor]outgoing-request" (func $new_request (param i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]outgoing-request.set-method" (func $set_method (param i32 i32 i32 i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]outgoing-request.set-scheme" (func $set_scheme (param i32 i32 i32 i32 i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]outgoing-request.set-authority" (func $set_authority (param i32 i32 i32 i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]outgoing-request.set-path-with-query" (func $set_path (param i32 i32 i32 i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]outgoing-request.body" (func $request_body (param i32 i32)))
(import "wasi:http/types@0.2.0" "[method]outgoing-body.write" (func $body_write (param i32 i32)))
(import "wasi:http/types@0.2.0" "[static]outgoing-body.finish" (func $body_finish (param i32 i32 i32 i32)))
(import "wasi:http/types@0.2.0" "[resource-drop]outgoing-body" (func $drop_body (param i32)))
(import "wasi:http/types@0.2.0" "[constructor]request-options" (func $new_options (result i32)))
(import "wasi:http/types@0.2.0" "[method]request-options.set-connect-timeout" (func $set_connect (param i32 i32 i64) (result i32)))
(import "wasi:http/types@0.2.0" "[method]request-options.set-first-byte-timeout" (func $set_first (param i32 i32 i64) (result i32)))
(import "wasi:http/types@0.2.0" "[method]request-options.set-between-bytes-timeout" (func $set_between (param i32 i32 i64) (result i32)))
(import "wasi:http/outgoing-handler@0.2.0" "handle" (func $handle (param i32 i32 i32 i32)))
(import "wasi:http/types@0.2.0" "[method]future-incoming-response.subscribe" (func $subscribe (param i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]future-incoming-response.get" (func $get (param i32 i32)))
(import "wasi:http/types@0.2.0" "[resource-drop]future-incoming-response" (func $drop_future (param i32)))
(import "wasi:http/types@0.2.0" "[method]incoming-response.status" (func $status (param i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]incoming-response.headers" (func $headers (param i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]incoming-response.consume" (func $consume (param i32 i32)))
(import "wasi:http/types@0.2.0" "[resource-drop]incoming-response" (func $drop_response (param i32)))
(import "wasi:http/types@0.2.0" "[method]incoming-body.stream" (func $stream (param i32 i32)))
(import "wasi:http/types@0.2.0" "[static]incoming-body.finish" (func $incoming_finish (param i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]future-trailers.subscribe" (func $subscribe_trailers (param i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]future-trailers.get" (func $get_trailers (param i32 i32)))
(import "wasi:http/types@0.2.0" "[resource-drop]future-trailers" (func $drop_trailers (param i32)))
(import "wasi:http/types@0.2.0" "http-error-code" (func $error_code (param i32 i32)))

;; 64 is where results go, 256 where the futures are kept: there is room for 192.
(global $payload (mut i32) (i32.const 0))
;; Where the next of what it gives is written, and where that begins.
(global $to (mut i32) (i32.const 0))
(global $result (mut i32) (i32.const 0))

(func $field (param $at i32) (result i32) (i32.load (i32.add (global.get $payload) (local.get $at))))
(func $text (param $at i32) (result i32) (i32.add (global.get $payload) (call $field (local.get $at))))
(func $does (param $flag i32) (result i32) (i32.and (call $field (i32.const 76)) (local.get $flag)))

(func $put8 (param $value i32)
  (i32.store8 (global.get $to) (local.get $value))
  (global.set $to (i32.add (global.get $to) (i32.const 1))))
(func $put32 (param $value i32)
  (i32.store (global.get $to) (local.get $value))
  (global.set $to (i32.add (global.get $to) (i32.const 4))))
(func $put (param $at i32) (param $length i32)
  (memory.copy (global.get $to) (local.get $at) (local.get $length))
  (global.set $to (i32.add (global.get $to) (local.get $length))))

(func $refuse (param $why i32) (call $put8 (i32.const 3)) (call $put8 (local.get $why)))

;; Headers or trailers as text, and how long that is.
(func $put_fields (param $fields i32)
  (local $entry i32) (local $left i32) (local $begin i32) (local $mark i32)
  (local.set $mark (global.get $top))
  (call $entries (local.get $fields) (i32.const 64))
  (local.set $entry (i32.load (i32.const 64)))
  (local.set $left (i32.load (i32.const 68)))
  (local.set $begin (global.get $to))
  (call $put32 (i32.const 0))
  (block $done
    (loop $next
      (br_if $done (i32.eqz (local.get $left)))
      (call $put (i32.load (local.get $entry)) (i32.load offset=4 (local.get $entry)))
      (call $put8 (i32.const 58)) (call $put8 (i32.const 32))
      (call $put (i32.load offset=8 (local.get $entry)) (i32.load offset=12 (local.get $entry)))
      (call $put8 (i32.const 10))
      (local.set $entry (i32.add (local.get $entry) (i32.const 16)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br $next)))
  (i32.store (local.get $begin) (i32.sub (global.get $to) (i32.add (local.get $begin) (i32.const 4))))
  (global.set $top (local.get $mark))
  (if (i32.eqz (call $does (i32.const 256))) (then (call $drop_fields (local.get $fields)))))

;; The timeouts; -1 if there are none.
(func $options (result i32)
  (local $options i32) (local $at i32)
  (local.set $at (global.get $payload))
  (if (i64.eq
        (i64.and
          (i64.and (i64.load offset=48 (local.get $at)) (i64.load offset=56 (local.get $at)))
          (i64.load offset=64 (local.get $at)))
        (i64.const -1))
    (then (return (i32.const -1))))
  (local.set $options (call $new_options))
  (if (i64.ne (i64.load offset=48 (local.get $at)) (i64.const -1))
    (then (drop (call $set_connect (local.get $options) (i32.const 1) (i64.load offset=48 (local.get $at))))))
  (if (i64.ne (i64.load offset=56 (local.get $at)) (i64.const -1))
    (then (drop (call $set_first (local.get $options) (i32.const 1) (i64.load offset=56 (local.get $at))))))
  (if (i64.ne (i64.load offset=64 (local.get $at)) (i64.const -1))
    (then (drop (call $set_between (local.get $options) (i32.const 1) (i64.load offset=64 (local.get $at))))))
  (local.get $options))

;; The first so many headers of the payload; -1 if they are refused, which is said.
(func $new_fields (param $count i32) (result i32)
  (call $from_list (call $text (i32.const 32)) (local.get $count) (i32.const 64))
  (if (i32.load8_u (i32.const 64))
    (then
      (call $put8 (i32.const 2))
      (call $put8 (i32.load8_u (i32.const 68)))
      (return (i32.const -1))))
  (i32.load (i32.const 68)))

;; Writes the body, as far as somebody takes it.
(func $send_body (param $body i32)
  (local $out i32) (local $at i32) (local $left i32) (local $piece i32) (local $trailers i32)
  (call $body_write (local.get $body) (i32.const 64))
  (local.set $out (i32.load (i32.const 68)))
  (local.set $at (call $text (i32.const 40)))
  (local.set $left (call $field (i32.const 44)))
  (block $done
    (loop $next
      (br_if $done (i32.eqz (local.get $left)))
      (local.set $piece (select (i32.const 4096) (local.get $left) (i32.gt_u (local.get $left) (i32.const 4096))))
      (call $write (local.get $out) (local.get $at) (local.get $piece) (i32.const 64))
      (if (i32.load8_u (i32.const 64))
        (then
          ;; The first case of `stream-error` has an error with it.
          (if (i32.eqz (i32.load8_u (i32.const 68))) (then (call $drop_error (i32.load (i32.const 72)))))
          (br $done)))
      (local.set $at (i32.add (local.get $at) (local.get $piece)))
      (local.set $left (i32.sub (local.get $left) (local.get $piece)))
      (br $next)))
  (call $drop_output (local.get $out))
  (if (call $does (i32.const 8)) (then (call $drop_body (local.get $body)) (return)))
  (if (call $does (i32.const 4))
    (then
      (local.set $trailers (call $new_fields (i32.ne (call $field (i32.const 36)) (i32.const 0))))
      (call $body_finish (local.get $body) (i32.const 1) (local.get $trailers) (i32.const 64)))
    (else (call $body_finish (local.get $body) (i32.const 0) (i32.const 0) (i32.const 64)))))

;; Makes a request. Gives the future of its response, or -1 if there is none, which is said.
(func $start (result i32)
  (local $headers i32) (local $request i32) (local $body i32) (local $options i32) (local $future i32)
  (local.set $headers (call $new_fields (call $field (i32.const 36))))
  (if (i32.eq (local.get $headers) (i32.const -1)) (then (return (i32.const -1))))
  (local.set $request (call $new_request (local.get $headers)))
  (if (call $set_method (local.get $request) (call $field (i32.const 0)) (call $text (i32.const 4)) (call $field (i32.const 8)))
    (then (call $refuse (i32.const 1)) (return (i32.const -1))))
  (if (call $set_scheme (local.get $request) (i32.const 1) (call $field (i32.const 12)) (i32.const 0) (i32.const 0))
    (then (call $refuse (i32.const 2)) (return (i32.const -1))))
  (if (call $set_authority (local.get $request) (i32.const 1) (call $text (i32.const 16)) (call $field (i32.const 20)))
    (then (call $refuse (i32.const 3)) (return (i32.const -1))))
  (if (call $set_path (local.get $request) (i32.const 1) (call $text (i32.const 24)) (call $field (i32.const 28)))
    (then (call $refuse (i32.const 4)) (return (i32.const -1))))
  (local.set $body (i32.const -1))
  (if (call $field (i32.const 44))
    (then
      (call $request_body (local.get $request) (i32.const 64))
      (if (i32.load8_u (i32.const 64)) (then (call $refuse (i32.const 5)) (return (i32.const -1))))
      (local.set $body (i32.load (i32.const 68)))))
  (local.set $options (call $options))
  (call $handle
    (local.get $request)
    (i32.ne (local.get $options) (i32.const -1))
    (local.get $options)
    (i32.const 64))
  (if (i32.load8_u (i32.const 64))
    (then
      (call $put8 (i32.const 1))
      (call $put8 (i32.load8_u (i32.const 72)))
      (if (i32.ne (local.get $body) (i32.const -1)) (then (call $drop_body (local.get $body))))
      (return (i32.const -1))))
  (local.set $future (i32.load (i32.const 72)))
  (if (i32.ne (local.get $body) (i32.const -1)) (then (call $send_body (local.get $body))))
  (local.get $future))

;; Reads a body to its end, and says what it was.
(func $put_body (param $body i32)
  (local $in i32) (local $begin i32) (local $count i32) (local $mark i32) (local $length i32) (local $error i32)
  (call $stream (local.get $body) (i32.const 64))
  (local.set $in (i32.load (i32.const 68)))
  (local.set $begin (global.get $to))
  (call $put32 (i32.const 0))
  (block $done
    (loop $next
      (if (call $does (i32.const 2)) (then (call $wait)))
      (if (call $does (i32.const 256)) (then (drop (call $subscribe_input (local.get $in)))))
      (local.set $mark (global.get $top))
      (call $read (local.get $in) (i64.const 65536) (i32.const 64))
      (br_if $done (i32.load8_u (i32.const 64)))
      (local.set $length (i32.load (i32.const 72)))
      (local.set $count (i32.add (local.get $count) (local.get $length)))
      (if (i32.eqz (call $does (i32.const 1))) (then (call $put (i32.load (i32.const 68)) (local.get $length))))
      (global.set $top (local.get $mark))
      (br $next)))
  (i32.store (local.get $begin) (local.get $count))
  (if (i32.eqz (call $does (i32.const 256))) (then (call $drop_input (local.get $in))))
  (if (i32.load8_u (i32.const 68))
    (then (call $put8 (i32.const 1)))
    (else
      (local.set $error (i32.load (i32.const 72)))
      (call $put8 (i32.const 0))
      (call $error_code (local.get $error) (i32.const 64))
      (call $put8
        (if (result i32) (i32.load8_u (i32.const 64))
          (then (i32.add (i32.load8_u (i32.const 72)) (i32.const 1)))
          (else (i32.const 0))))
      (call $drop_error (local.get $error)))))

(func $put_trailers (param $body i32)
  (local $future i32) (local $pollable i32)
  (local.set $future (call $incoming_finish (local.get $body)))
  (local.set $pollable (call $subscribe_trailers (local.get $future)))
  (call $block (local.get $pollable))
  (call $drop_pollable (local.get $pollable))
  (call $get_trailers (local.get $future) (i32.const 64))
  ;; There is a result, of the first and the second kind, and something in it.
  (if (i32.and
        (i32.eqz (i32.or (i32.load8_u (i32.const 72)) (i32.load8_u (i32.const 80))))
        (i32.load8_u (i32.const 88)))
    (then (call $put_fields (i32.load (i32.const 92))))
    (else (call $put32 (i32.const 0))))
  (call $drop_trailers (local.get $future)))

;; Waits for a response, and says what it was.
(func $finish (param $future i32)
  (local $pollable i32) (local $response i32) (local $body i32)
  (if (call $does (i32.const 16)) (then (call $drop_future (local.get $future)) (call $refuse (i32.const 6)) (return)))
  (local.set $pollable (call $subscribe (local.get $future)))
  (call $block (local.get $pollable))
  (if (i32.eqz (call $does (i32.const 256))) (then (call $drop_pollable (local.get $pollable))))
  (call $get (local.get $future) (i32.const 64))
  (if (i32.eqz (call $does (i32.const 256))) (then (call $drop_future (local.get $future))))
  (if (i32.load8_u (i32.const 80))
    (then (call $put8 (i32.const 1)) (call $put8 (i32.load8_u (i32.const 88))) (return)))
  (local.set $response (i32.load (i32.const 88)))
  (call $put8 (i32.const 0))
  (call $put32 (call $status (local.get $response)))
  (call $put_fields (call $headers (local.get $response)))
  (call $consume (local.get $response) (i32.const 64))
  (local.set $body (i32.load (i32.const 68)))
  (if (call $does (i32.const 32))
    (then (call $put32 (i32.const 0)) (call $put8 (i32.const 1)))
    (else (call $put_body (local.get $body))))
  (if (call $does (i32.const 256)) (then (call $put32 (i32.const 0)) (return)))
  (call $put_trailers (local.get $body))
  (call $drop_response (local.get $response)))

;; Headers are lists of what is somewhere in memory.
(func $relocate
  (local $at i32) (local $left i32)
  (local.set $at (call $text (i32.const 32)))
  (local.set $left (i32.mul (call $field (i32.const 36)) (i32.const 2)))
  (block $done
    (loop $next
      (br_if $done (i32.eqz (local.get $left)))
      (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (global.get $payload)))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br $next))))

;; Makes as many requests as it is to make at once.
(func $round
  (local $made i32)
  (loop $next
    (i32.store offset=256 (i32.mul (local.get $made) (i32.const 4)) (call $start))
    (local.set $made (i32.add (local.get $made) (i32.const 1)))
    (br_if $next (i32.lt_u (local.get $made) (call $field (i32.const 72)))))
  (local.set $made (i32.const 0))
  (loop $next
    (if (i32.ne (i32.load offset=256 (i32.mul (local.get $made) (i32.const 4))) (i32.const -1))
      (then (call $finish (i32.load offset=256 (i32.mul (local.get $made) (i32.const 4))))))
    (local.set $made (i32.add (local.get $made) (i32.const 1)))
    (br_if $next (i32.lt_u (local.get $made) (call $field (i32.const 72))))))

(func (export "run") (param $kind i32) (param $at i32) (param $length i32) (result i32)
  (local $left i32)
  (global.set $payload (local.get $at))
  (global.set $result (call $realloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 0x200000)))
  (global.set $to (global.get $result))
  (call $relocate)
  (if (call $does (i32.const 64)) (then (call $wait)))
  (local.set $left (select (i32.const 8) (i32.const 1) (call $does (i32.const 128))))
  (loop $again
    (call $round)
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br_if $again (local.get $left)))
  (i32.store8 (i32.const 16) (i32.const 0))
  (i32.store8 (i32.const 20) (i32.const 1))
  (i32.store (i32.const 24) (global.get $result))
  (i32.store (i32.const 28) (i32.sub (global.get $to) (global.get $result)))
  (i32.const 16))
