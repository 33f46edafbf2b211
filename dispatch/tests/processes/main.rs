//! Processes, from outside: started, sent to, watched, linked, ended.
//!
//! Which test shows which row of what processes promise:
//!
//! | row | what | test |
//! |---|---|---|
//! | P1 | unknown host, unknown entry, a host that cannot run it, a resolver that refuses: nothing runs | `starting::an_unknown_host_and_an_unknown_entry_are_errors`, `starting::a_host_runs_only_the_engines_that_it_is_for`, `starting::where_a_resolver_refuses_nothing_is_run_and_the_host_is_not_asked` |
//! | P2 | a frame that is not made is the failure of the start | `starting::where_a_resolver_panics_nothing_is_run_and_the_starter_goes_on` |
//! | P3 | options of the entry are merged | `frames::options_of_the_start_go_over_those_of_the_entry` |
//! | P4 | PIDs are typed, readable, never given twice | `starting::no_pid_is_given_twice_and_each_reads_back_from_its_text` |
//! | P5 | a process lives on its host, its frame comes from its starter | `starting::a_process_outlives_the_call_that_started_it`, `frames::a_frame_inherits_from_the_starter` |
//! | P6 | a start under a taken name can signal the holder | `signalling::of_many_that_start_by_a_name_one_does_and_the_others_signal_it` |
//! | P7 | the limit on processes is exact | `limits::a_host_takes_exactly_as_many_as_it_may_however_many_ask_at_once` |
//! | P8 | stop cancels all, waits, kills what is left | `stopping::a_host_is_stopped_by_asking_then_by_killing` |
//! | P9 | cancel is a message, and the process may finish; terminate ends it where it is | `ending::a_cancelled_process_may_finish_its_work`, `ending::a_process_that_is_always_ready_is_terminated` |
//! | P10 | a message to an unknown or ended PID is an error | `messages::a_message_to_who_is_not_there_is_an_error_and_given_back` |
//! | P11 | lifecycle handlers in order, undone in reverse | `lifecycle::where_a_handler_refuses_those_before_it_are_undone_in_reverse` |
//! | P12 | a monitor gives one exit; twice, or of nobody, is an error; of one that has ended, at once | `monitors::a_process_is_told_of_an_exit_once`, `monitors::monitoring_twice_oneself_or_nobody_is_an_error`, `monitors::the_exit_of_one_that_has_ended_is_given_at_once` |
//! | P13 | links go both ways, are idempotent, and take down on failure only, or send a message | `links::a_failure_ends_the_linked_process_either_way_round`, `links::linking_again_is_no_second_link`, `links::a_normal_end_leaves_the_other`, `links::who_traps_is_told_and_goes_on` |
//! | P14 | exec is start, monitor and wait | `exits::exec_gives_what_the_process_gave_or_how_it_ended` |
//! | P17 | what a process owns ends with it, however it ends | `owners::what_is_owned_ends_with_its_owner_however_that_ends_and_whatever_it_traps` |
//! | P18 | a name that is not bound yet is waited for | `lookups::all_that_wait_for_a_name_are_told_of_the_process_that_has_it` |
//! | P19 | what may be spawned is decided before anything runs | `policies::what_a_policy_refuses_is_an_error_with_its_reason_and_nothing_is_done_for_it` |
//! | P16 | a destination is a PID, then a name | `messages::a_destination_is_a_pid_or_a_name` |

mod calls;
mod ending;
mod exits;
mod faults;
mod fetching;
mod frames;
mod groups;
mod introspection;
mod lifecycle;
mod limits;
mod links;
mod lookups;
mod messages;
mod monitors;
mod names;
mod owners;
mod policies;
mod signalling;
mod starting;
mod stopping;
mod support;
mod timers;
mod unread;
