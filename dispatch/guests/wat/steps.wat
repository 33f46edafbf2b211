;; Does with processes what its payload says: steps, each a letter and its arguments, one a line. Gives what came of them, one a
;; line. `$` is the process that it started last; in the payload of one that it starts `|` ends a line.
;;
;;   S                                 its PID
;;   r <milliseconds, or none>         receives
;;   p <to> <JSON>, t <to> <JSON>      sends, tries to send
;;   b, o, x <host> <entry> <payload> <name, or none> <message, or none> <monitor, 0 or 1> <link>
;;                                     starts, starts or signals, executes; <link> is 1 for a link, 2 for an owned process, 3 for both
;;   a <supervisor> <payload, or none> <name, or none>
;;                                     starts a child, and gives its id, a space and its PID
;;   e <supervisor> <child>            stops a child
;;   C <to> <JSON> <milliseconds, or none>
;;                                     calls
;;   M <sender, or none> <pattern, or none> <milliseconds, or none>
;;                                     receives what matches
;;   R <JSON>, D, A                    replies to the call that it received last, drops it, says whether it is awaited
;;   m, l, u <process>                 monitors, links, unlinks
;;   d <monitor>                       demonitors; `%` is the monitor that it made last
;;   T <0 or 1>                        traps links
;;   s, E <milliseconds> <JSON>        sets a timer, once or again and again
;;   X <timer>                         cancels one; `%` is the timer that it set last
;;   k <process> <reason> <milliseconds, or none>
;;                                     cancels
;;   K <process>                       terminates
;;   n, N, w <name>                    registers, unregisters, looks up
;;   W <name> <milliseconds, or none>  looks up, and waits
;;   j, J, G <group> <host, or none>   joins, leaves, gives how many members there are, up to 9
;;   v, V <group> <host, or none>      watches, watches no more
;;   P <group> <host, or none> <JSON>  publishes
;;   c                                 why it was cancelled
;;   L <message>                       logs
;;   g <pages>                         asks for memory
;;   z                                 spins
;;   !                                 traps
;;   @                                 begins again, with nothing of what came of the steps
(import "frame:function/log@0.1.0" "log" (func $log (param i32 i32 i32)))
(import "frame:function/processes@0.1.0" "self" (func $self (param i32)))
(import "frame:function/processes@0.1.0" "cancelled" (func $cancelled (param i32)))
(import "frame:function/processes@0.1.0" "receive" (func $receive (param i32 i64 i32)))
(import "frame:function/processes@0.1.0" "receive-matching"
  (func $receive_matching (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32)))
(import "frame:function/processes@0.1.0" "call" (func $call (param i32 i32 i32 i32 i32 i32 i64 i32)))
(import "frame:function/processes@0.1.0" "[static]reply-to.send" (func $reply (param i32 i32 i32 i32 i32)))
(import "frame:function/processes@0.1.0" "[method]reply-to.is-awaited" (func $is_awaited (param i32) (result i32)))
(import "frame:function/processes@0.1.0" "[resource-drop]reply-to" (func $drop_reply (param i32)))
(import "frame:function/processes@0.1.0" "send" (func $send (param i32 i32 i32 i32 i32 i32)))
(import "frame:function/processes@0.1.0" "try-send" (func $try_send (param i32 i32 i32 i32 i32 i32)))
(import "frame:function/processes@0.1.0" "spawn" (func $start (param i32 i32)))
(import "frame:function/processes@0.1.0" "spawn-or-signal" (func $start_or_signal (param i32 i32)))
(import "frame:function/processes@0.1.0" "exec" (func $exec (param i32 i32)))
(import "frame:function/supervisors@0.1.0" "start-child"
  (func $start_child (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
(import "frame:function/supervisors@0.1.0" "stop-child" (func $stop_child (param i32 i32 i32 i32 i32)))
(import "frame:function/processes@0.1.0" "monitor" (func $monitor (param i32 i32 i32)))
(import "frame:function/processes@0.1.0" "demonitor" (func $demonitor (param i32 i32 i32)))
(import "frame:function/processes@0.1.0" "link" (func $link (param i32 i32 i32)))
(import "frame:function/processes@0.1.0" "unlink" (func $unlink (param i32 i32 i32)))
(import "frame:function/processes@0.1.0" "trap-links" (func $trap_links (param i32 i32)))
(import "frame:function/processes@0.1.0" "cancel" (func $cancel (param i32 i32 i32 i32 i32 i64 i32)))
(import "frame:function/processes@0.1.0" "terminate" (func $terminate (param i32 i32 i32)))
(import "frame:function/timers@0.1.0" "send-after" (func $send_after (param i64 i32 i32 i32 i32)))
(import "frame:function/timers@0.1.0" "send-every" (func $send_every (param i64 i32 i32 i32 i32)))
(import "frame:function/timers@0.1.0" "cancel" (func $cancel_timer (param i32 i32 i32)))
(import "frame:function/groups@0.1.0" "join" (func $join (param i32 i32 i32 i32 i32 i32)))
(import "frame:function/groups@0.1.0" "leave" (func $leave (param i32 i32 i32 i32 i32 i32)))
(import "frame:function/groups@0.1.0" "watch" (func $watch (param i32 i32 i32 i32 i32 i32)))
(import "frame:function/groups@0.1.0" "unwatch" (func $unwatch (param i32 i32 i32 i32 i32 i32)))
(import "frame:function/groups@0.1.0" "members" (func $members (param i32 i32 i32 i32 i32 i32)))
(import "frame:function/groups@0.1.0" "publish"
  (func $publish (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))
(import "frame:function/processes@0.1.0" "lookup" (func $lookup (param i32 i32 i32 i64 i32)))
(import "frame:function/processes@0.1.0" "register" (func $register (param i32 i32 i32)))
(import "frame:function/processes@0.1.0" "unregister" (func $unregister (param i32 i32 i32)))
(import "frame:function/processes@0.1.0" "whereis" (func $whereis (param i32 i32 i32)))

;; The steps that are left, what came of those before, the process that was started last, the monitor or timer that was made
;; last, and where the reply to the call goes that was received last.
(global $in (mut i32) (i32.const 0))
(global $end (mut i32) (i32.const 0))
(global $out (mut i32) (i32.const 0))
(global $last (mut i32) (i32.const 0))
(global $last_length (mut i32) (i32.const 0))
(global $monitor (mut i32) (i32.const 0))
(global $monitor_length (mut i32) (i32.const 0))
(global $reply (mut i32) (i32.const 0))

(func $byte (param $byte i32)
  (i32.store8 (global.get $out) (local.get $byte))
  (global.set $out (i32.add (global.get $out) (i32.const 1))))

(func $text (param $at i32) (param $length i32)
  (memory.copy (global.get $out) (local.get $at) (local.get $length))
  (global.set $out (i32.add (global.get $out) (local.get $length))))

;; The next line.
(func $line (result i32 i32)
  (local $at i32) (local $length i32)
  (local.set $at (global.get $in))
  (block $over
    (loop $next
      (br_if $over (i32.ge_u (global.get $in) (global.get $end)))
      (br_if $over (i32.eq (i32.load8_u (global.get $in)) (i32.const 10)))
      (global.set $in (i32.add (global.get $in) (i32.const 1)))
      (br $next)))
  (local.set $length (i32.sub (global.get $in) (local.get $at)))
  (global.set $in (i32.add (global.get $in) (i32.const 1)))
  (local.get $at) (local.get $length))

(func $process (result i32 i32)
  (local $at i32) (local $length i32)
  (call $line) (local.set $length) (local.set $at)
  (if (i32.eq (local.get $length) (i32.const 1))
    (then
      (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 0x24))
        (then (local.set $at (global.get $last)) (local.set $length (global.get $last_length))))))
  (local.get $at) (local.get $length))

;; The reference of a monitor or a timer.
(func $reference (result i32 i32)
  (local $at i32) (local $length i32)
  (call $process) (local.set $length) (local.set $at)
  (if (i32.eq (local.get $length) (i32.const 1))
    (then
      (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 0x25))
        (then (local.set $at (global.get $monitor)) (local.set $length (global.get $monitor_length))))))
  (local.get $at) (local.get $length))

;; The next line as an optional text, as arguments.
(func $maybe (result i32 i32 i32)
  (local $at i32) (local $length i32)
  (call $process) (local.set $length) (local.set $at)
  (i32.ne (local.get $length) (i32.const 0)) (local.get $at) (local.get $length))

;; The next line as an optional number.
(func $number (result i32 i64)
  (local $at i32) (local $length i32) (local $number i64) (local $is_there i32)
  (call $line) (local.set $length) (local.set $at)
  (local.set $is_there (i32.ne (local.get $length) (i32.const 0)))
  (block $over
    (loop $next
      (br_if $over (i32.eqz (local.get $length)))
      (local.set $number
        (i64.add
          (i64.mul (local.get $number) (i64.const 10))
          (i64.extend_i32_u (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (local.set $length (i32.sub (local.get $length) (i32.const 1)))
      (br $next)))
  (local.get $is_there) (local.get $number))

;; The next line as a number.
(func $digit (result i32)
  (local $number i64)
  (call $number) (local.set $number) drop
  (i32.wrap_i64 (local.get $number)))

;; The next line as a time.
(func $time (result i64)
  (local $time i64)
  (call $number) (local.set $time) drop
  (local.get $time))

;; The next line as an optional text, into a record.
(func $optional (param $to i32)
  (local $at i32) (local $length i32)
  (call $line) (local.set $length) (local.set $at)
  (i32.store8 (local.get $to) (i32.ne (local.get $length) (i32.const 0)))
  (i32.store offset=4 (local.get $to) (local.get $at))
  (i32.store offset=8 (local.get $to) (local.get $length)))

;; A text, or an optional one, from a record.
(func $text_at (param $at i32)
  (call $text (i32.load (local.get $at)) (i32.load offset=4 (local.get $at))))

(func $optional_at (param $at i32)
  (if (i32.load8_u (local.get $at))
    (then (call $text_at (i32.add (local.get $at) (i32.const 4))))
    (else (call $byte (i32.const 0x2d)))))

;; `e`, the number of its kind, `:` and its message.
(func $error (param $at i32)
  (call $byte (i32.const 0x65))
  (call $byte (i32.add (i32.const 48) (i32.load8_u (local.get $at))))
  (call $byte (i32.const 0x3a))
  (call $text_at (i32.add (local.get $at) (i32.const 4))))

;; What came of the last import is at 64. Where it failed, that is said, and 0 given.
(func $worked (param $error i32) (result i32)
  (if (i32.load8_u (i32.const 64)) (then (call $error (local.get $error)) (return (i32.const 0))))
  (i32.const 1))

(func $nothing
  (if (call $worked (i32.const 68)) (then (call $byte (i32.const 0x2e)))))

(func $flag
  (if (call $worked (i32.const 68))
    (then (call $byte (i32.add (i32.const 48) (i32.load8_u (i32.const 68)))))))

(func $optional_text
  (if (call $worked (i32.const 68)) (then (call $optional_at (i32.const 68)))))

;; `s`, or `q` for a call, from whom, a space and what; `x` or `l`, the number of the reason, a space and the result; `c` and why;
;; `t`, how many ticks were missed, a space and what; `v` and the group; or `-`.
(func $received
  (if (i32.eqz (call $worked (i32.const 72))) (then return))
  (if (i32.eqz (i32.load8_u (i32.const 72))) (then (call $byte (i32.const 0x2d)) return))
  (if (i32.eq (i32.load8_u (i32.const 80)) (i32.const 4))
    (then
      (call $byte (i32.const 0x74))
      (call $byte (i32.add (i32.const 48) (i32.load8_u (i32.const 112))))
      (call $byte (i32.const 0x20))
      (call $text_at (i32.const 100))
      return))
  (if (i32.eq (i32.load8_u (i32.const 80)) (i32.const 5))
    (then (call $byte (i32.const 0x76)) (call $text_at (i32.const 96)) return))
  (block $cancelled
    (block $down
      (block $exited
        (block $sent
          (br_table $sent $exited $down $cancelled (i32.load8_u (i32.const 80))))
        (call $byte (select (i32.const 0x71) (i32.const 0x73) (i32.load8_u (i32.const 112))))
        (if (i32.load8_u (i32.const 112)) (then (global.set $reply (i32.load (i32.const 116)))))
        (call $optional_at (i32.const 88))
        (call $byte (i32.const 0x20))
        (call $text_at (i32.const 104))
        return)
      (call $byte (i32.const 0x78))
      (call $exit)
      return)
    (call $byte (i32.const 0x6c))
    (call $exit)
    return)
  (call $byte (i32.const 0x63))
  (call $text_at (i32.const 88)))

(func $exit
  (call $byte (i32.add (i32.const 48) (i32.load8_u (i32.const 96))))
  (call $byte (i32.const 0x20))
  (if (i32.load8_u (i32.const 140))
    (then (call $text_at (i32.const 148)))
    (else (call $text_at (i32.const 100)))))

;; Ends a line wherever there is a `|`.
(func $lines (param $at i32) (param $length i32)
  (block $over
    (loop $next
      (br_if $over (i32.eqz (local.get $length)))
      (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 0x7c))
        (then (i32.store8 (local.get $at) (i32.const 10))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (local.set $length (i32.sub (local.get $length) (i32.const 1)))
      (br $next))))

;; What to start, at 192.
(func $spec (result i32)
  (local $at i32) (local $length i32)
  (call $line) (local.set $length) (local.set $at)
  (i32.store (i32.const 192) (local.get $at))
  (i32.store (i32.const 196) (local.get $length))
  (call $line) (local.set $length) (local.set $at)
  (i32.store (i32.const 200) (local.get $at))
  (i32.store (i32.const 204) (local.get $length))
  (call $line) (local.set $length) (local.set $at)
  (i32.store (i32.const 208) (i32.const 1))
  (i32.store (i32.const 212) (local.get $at))
  (i32.store (i32.const 216) (local.get $length))
  (call $lines (local.get $at) (local.get $length))
  (i32.store8 (i32.const 220) (i32.const 0))
  (call $optional (i32.const 232))
  ;; A list of no messages, or of one, which is JSON.
  (call $optional (i32.const 256))
  (i32.store (i32.const 244) (i32.const 272))
  (i32.store (i32.const 248) (i32.load8_u (i32.const 256)))
  (i32.store (i32.const 272) (i32.const 0))
  (i32.store (i32.const 276) (i32.load (i32.const 260)))
  (i32.store (i32.const 280) (i32.load (i32.const 264)))
  (i32.store8 (i32.const 252) (call $digit))
  (i32.store8 (i32.const 254) (call $digit))
  (i32.store8 (i32.const 253) (i32.and (i32.load8_u (i32.const 254)) (i32.const 1)))
  (i32.store8 (i32.const 254) (i32.shr_u (i32.load8_u (i32.const 254)) (i32.const 1)))
  (i32.const 192))

;; The next line as an optional payload, as arguments. Its lines are as those of a process that is started.
(func $maybe_payload (result i32 i32 i32 i32)
  (local $at i32) (local $length i32)
  (call $line) (local.set $length) (local.set $at)
  (call $lines (local.get $at) (local.get $length))
  (i32.ne (local.get $length) (i32.const 0)) (i32.const 1) (local.get $at) (local.get $length))

;; The PID at this place is that of the process that was started last.
(func $started (param $at i32)
  (global.set $last (i32.load (local.get $at)))
  (global.set $last_length (i32.load offset=4 (local.get $at)))
  (call $text_at (local.get $at)))

;; The reference of what was made last.
(func $made
  (if (call $worked (i32.const 68))
    (then
      (global.set $monitor (i32.load (i32.const 68)))
      (global.set $monitor_length (i32.load (i32.const 72)))
      (call $text_at (i32.const 68)))))

(func $step (param $letter i32)
  (if (i32.eq (local.get $letter) (i32.const 0x53)) ;; S
    (then (call $self (i32.const 64)) (call $optional_at (i32.const 64))))
  (if (i32.eq (local.get $letter) (i32.const 0x63)) ;; c
    (then (call $cancelled (i32.const 64)) (call $optional_text)))
  (if (i32.eq (local.get $letter) (i32.const 0x72)) ;; r
    (then (call $receive (call $number) (i32.const 64)) (call $received)))
  (if (i32.eq (local.get $letter) (i32.const 0x70)) ;; p
    (then (call $send (call $process) (i32.const 0) (call $line) (i32.const 64)) (call $nothing)))
  (if (i32.eq (local.get $letter) (i32.const 0x74)) ;; t
    (then (call $try_send (call $process) (i32.const 0) (call $line) (i32.const 64)) (call $nothing)))
  (if (i32.eq (local.get $letter) (i32.const 0x62)) ;; b
    (then
      (call $start (call $spec) (i32.const 64))
      (if (call $worked (i32.const 68)) (then (call $started (i32.const 68))))))
  (if (i32.eq (local.get $letter) (i32.const 0x6f)) ;; o
    (then
      (call $start_or_signal (call $spec) (i32.const 64))
      (if (call $worked (i32.const 68))
        (then
          (call $byte (i32.add (i32.const 48) (i32.load8_u (i32.const 68))))
          (call $started (i32.const 72))))))
  (if (i32.eq (local.get $letter) (i32.const 0x78)) ;; x
    (then
      (call $exec (call $spec) (i32.const 64))
      (if (call $worked (i32.const 68)) (then (call $text_at (i32.const 72))))))
  (if (i32.eq (local.get $letter) (i32.const 0x61)) ;; a
    (then
      (call $start_child
        (call $line)
        (call $maybe_payload)
        (i32.const 0) (i32.const 0) (i32.const 0)
        (call $maybe)
        (i32.const 0) (i32.const 0)
        (i32.const 64))
      (if (call $worked (i32.const 68))
        (then
          (call $text_at (i32.const 68))
          (call $byte (i32.const 0x20))
          (call $started (i32.const 76))))))
  (if (i32.eq (local.get $letter) (i32.const 0x65)) ;; e
    (then (call $stop_child (call $line) (call $process) (i32.const 64)) (call $nothing)))
  (if (i32.eq (local.get $letter) (i32.const 0x6d)) ;; m
    (then (call $monitor (call $process) (i32.const 64)) (call $made)))
  (if (i32.eq (local.get $letter) (i32.const 0x73)) ;; s
    (then (call $send_after (call $time) (i32.const 0) (call $line) (i32.const 64)) (call $made)))
  (if (i32.eq (local.get $letter) (i32.const 0x45)) ;; E
    (then (call $send_every (call $time) (i32.const 0) (call $line) (i32.const 64)) (call $made)))
  (if (i32.eq (local.get $letter) (i32.const 0x58)) ;; X
    (then (call $cancel_timer (call $reference) (i32.const 64)) (call $flag)))
  (if (i32.eq (local.get $letter) (i32.const 0x64)) ;; d
    (then (call $demonitor (call $reference) (i32.const 64)) (call $flag)))
  (if (i32.eq (local.get $letter) (i32.const 0x43)) ;; C
    (then
      (call $call (call $process) (i32.const 0) (call $line) (call $number) (i32.const 64))
      (if (call $worked (i32.const 68)) (then (call $text_at (i32.const 72))))))
  (if (i32.eq (local.get $letter) (i32.const 0x4d)) ;; M
    (then
      (call $receive_matching
        (i32.const 0) (i32.const 0)
        (call $maybe)
        (i32.const 0) (i32.const 0) (i32.const 0)
        (call $maybe)
        (call $number)
        (i32.const 64))
      (call $received)))
  (if (i32.eq (local.get $letter) (i32.const 0x52)) ;; R
    (then (call $reply (global.get $reply) (i32.const 0) (call $line) (i32.const 64)) (call $flag)))
  (if (i32.eq (local.get $letter) (i32.const 0x44)) ;; D
    (then (call $drop_reply (global.get $reply)) (call $byte (i32.const 0x2e))))
  (if (i32.eq (local.get $letter) (i32.const 0x41)) ;; A
    (then (call $byte (i32.add (i32.const 48) (call $is_awaited (global.get $reply))))))
  (if (i32.eq (local.get $letter) (i32.const 0x6c)) ;; l
    (then (call $link (call $process) (i32.const 64)) (call $nothing)))
  (if (i32.eq (local.get $letter) (i32.const 0x75)) ;; u
    (then (call $unlink (call $process) (i32.const 64)) (call $nothing)))
  (if (i32.eq (local.get $letter) (i32.const 0x54)) ;; T
    (then (call $trap_links (call $digit) (i32.const 64)) (call $nothing)))
  (if (i32.eq (local.get $letter) (i32.const 0x6b)) ;; k
    (then (call $cancel (call $process) (call $line) (call $number) (i32.const 64)) (call $nothing)))
  (if (i32.eq (local.get $letter) (i32.const 0x4b)) ;; K
    (then (call $terminate (call $process) (i32.const 64)) (call $nothing)))
  (if (i32.eq (local.get $letter) (i32.const 0x6e)) ;; n
    (then (call $register (call $line) (i32.const 64)) (call $nothing)))
  (if (i32.eq (local.get $letter) (i32.const 0x4e)) ;; N
    (then (call $unregister (call $line) (i32.const 64)) (call $flag)))
  (if (i32.eq (local.get $letter) (i32.const 0x77)) ;; w
    (then (call $whereis (call $line) (i32.const 64)) (call $optional_text)))
  (if (i32.eq (local.get $letter) (i32.const 0x57)) ;; W
    (then (call $lookup (call $line) (call $number) (i32.const 64)) (call $optional_text)))
  (if (i32.eq (local.get $letter) (i32.const 0x6a)) ;; j
    (then (call $join (call $line) (call $maybe) (i32.const 64)) (call $flag)))
  (if (i32.eq (local.get $letter) (i32.const 0x4a)) ;; J
    (then (call $leave (call $line) (call $maybe) (i32.const 64)) (call $flag)))
  (if (i32.eq (local.get $letter) (i32.const 0x76)) ;; v
    (then (call $watch (call $line) (call $maybe) (i32.const 64)) (call $flag)))
  (if (i32.eq (local.get $letter) (i32.const 0x56)) ;; V
    (then (call $unwatch (call $line) (call $maybe) (i32.const 64)) (call $flag)))
  (if (i32.eq (local.get $letter) (i32.const 0x47)) ;; G
    (then
      (call $members (call $line) (call $maybe) (i32.const 64))
      (if (call $worked (i32.const 68))
        (then (call $byte (i32.add (i32.const 48) (i32.load (i32.const 72))))))))
  (if (i32.eq (local.get $letter) (i32.const 0x50)) ;; P
    (then
      (call $publish (call $line) (call $maybe) (i32.const 0) (call $line) (i32.const 64))
      (if (call $worked (i32.const 68))
        (then
          (call $byte (i32.add (i32.const 48) (i32.load (i32.const 68))))
          (call $byte (i32.add (i32.const 48) (i32.load (i32.const 72))))))))
  (if (i32.eq (local.get $letter) (i32.const 0x4c)) ;; L
    (then (call $log (i32.const 2) (call $line)) (call $byte (i32.const 0x2e))))
  (if (i32.eq (local.get $letter) (i32.const 0x67)) ;; g
    (then
      (call $byte
        (select (i32.const 0x2d) (i32.const 0x2e) (i32.eq (memory.grow (call $digit)) (i32.const -1))))))
  (if (i32.eq (local.get $letter) (i32.const 0x7a)) ;; z
    (then (loop $forever (br $forever))))
  (if (i32.eq (local.get $letter) (i32.const 0x21)) (then unreachable))) ;; !

(func (export "run") (param $kind i32) (param $at i32) (param $length i32) (result i32)
  (local $results i32) (local $top i32) (local $letter i32)
  (local.set $results (call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 65536)))
  (local.set $top (global.get $top))
  (global.set $in (local.get $at))
  (global.set $end (i32.add (local.get $at) (local.get $length)))
  (global.set $out (local.get $results))
  (block $over
    (loop $next
      (br_if $over (i32.ge_u (global.get $in) (global.get $end)))
      (local.set $letter (i32.load8_u (global.get $in)))
      (global.set $in (i32.add (global.get $in) (i32.const 2)))
      (if (i32.eq (local.get $letter) (i32.const 0x40)) ;; @
        (then
          (global.set $in (local.get $at))
          (global.set $out (local.get $results))
          (global.set $top (local.get $top))
          (br $next)))
      (call $step (local.get $letter))
      (call $byte (i32.const 10))
      (br $next)))
  (i32.store8 (i32.const 16) (i32.const 0))
  (i32.store8 (i32.const 20) (i32.const 1))
  (i32.store (i32.const 24) (local.get $results))
  (i32.store (i32.const 28) (i32.sub (global.get $out) (local.get $results)))
  (i32.const 16))
