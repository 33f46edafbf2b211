//! What the guide tells those who know OTP is true: each row of its tables is shown by tests.

use std::collections::BTreeSet;
use std::fs;

use frame_tests::workspace;

const PROCESSES: &str = "dispatch/tests/processes";
const SUPERVISORS: &str = "dispatch/tests/supervisors";
const LUA: &str = "dispatch/tests/lua/processes";
const PROGRAM: &str = "tests/program";

/// A test: a folder, a file in it, and a function in that.
type Shown = (&'static str, &'static str, &'static str);

/// The rows by what their first cell begins with, and the tests that show them.
const ROWS: &[(&str, &[Shown])] = &[
    (
        "`gen_server:call/3`",
        &[(PROCESSES, "calls", "a_late_reply_is_given_back_to_the_callee_and_reaches_no_mailbox")],
    ),
    ("`gen_server:reply/2`", &[(PROCESSES, "calls", "the_end_of_the_callee_ends_the_call_with_its_exit")]),
    ("`gen_server:cast/2`", &[(PROCESSES, "calls", "a_message_that_is_not_a_call_cannot_be_replied_to")]),
    (
        "calling oneself",
        &[(
            PROCESSES,
            "calls",
            "a_process_cannot_call_itself_nor_fill_its_mailbox_through_a_function_or_a_process_that_it_waits_for",
        )],
    ),
    ("`monitor/2`", &[(PROCESSES, "monitors", "an_exit_in_the_mailbox_is_gone_with_the_monitor")]),
    (
        "`receive` with patterns",
        &[(PROCESSES, "messages", "selective_receive_takes_the_wanted_and_leaves_the_others_in_order")],
    ),
    ("`!` never blocks", &[(PROCESSES, "messages", "a_sender_waits_for_room_no_longer_than_it_may")]),
    (
        "`send_after/3`",
        &[(PROCESSES, "timers", "a_repeated_timer_keeps_its_pace_whatever_the_process_does_meanwhile")],
    ),
    (
        "`cancel_timer/1`",
        &[(PROCESSES, "timers", "a_cancelled_timer_is_not_received_wherever_its_message_was")],
    ),
    (
        "`whereis` in a loop",
        &[(PROCESSES, "lookups", "all_that_wait_for_a_name_are_told_of_the_process_that_has_it")],
    ),
    ("`pg`:", &[(PROCESSES, "groups", "a_member_leaves_when_it_says_so_or_ends_before_its_end_is_told")]),
    (
        "`pg:monitor/1`",
        &[(PROCESSES, "groups", "a_process_that_watches_a_group_is_told_once_until_it_has_read_that")],
    ),
    ("`[Pid ! M", &[(PROCESSES, "groups", "a_member_with_a_full_mailbox_is_counted_and_holds_up_no_other")]),
    (
        "`supervisor:init/1`",
        &[(
            PROCESSES,
            "policies",
            "what_a_policy_refuses_is_an_error_with_its_reason_and_nothing_is_done_for_it",
        )],
    ),
    (
        "process, mailbox",
        &[(PROCESSES, "messages", "messages_of_one_sender_arrive_in_order_also_where_it_waits_for_room")],
    ),
    (
        "`spawn`, `spawn_link`",
        &[
            (PROCESSES, "links", "a_start_with_a_link_is_linked_however_soon_it_fails"),
            (PROCESSES, "monitors", "a_start_with_a_monitor_tells_of_however_short_a_life"),
            (PROCESSES, "limits", "a_host_that_is_full_says_so"),
            (LUA, "grants", "a_process_starts_others_on_its_own_host_only"),
        ],
    ),
    (
        "`link`, `process_flag",
        &[
            (PROCESSES, "links", "a_failure_ends_the_linked_process_either_way_round"),
            (PROCESSES, "links", "who_traps_is_told_and_goes_on"),
        ],
    ),
    ("`monitor` |", &[(LUA, "relations", "the_exit_of_a_script_has_its_result_or_its_error")]),
    (
        "`exit(Pid, shutdown)`",
        &[(PROCESSES, "ending", "a_process_that_does_not_end_is_killed_when_the_grace_period_is_over")],
    ),
    ("`exit(Pid, kill)`", &[(LUA, "ending", "whatever_a_script_does_it_is_terminated")]),
    (
        "a parent's exit signal",
        &[
            (
                PROCESSES,
                "owners",
                "what_is_owned_ends_with_its_owner_however_that_ends_and_whatever_it_traps",
            ),
            (LUA, "owned", "what_a_script_owns_ends_with_it_however_it_ends"),
            ("dispatch/tests/wasm/processes", "owned", "what_a_component_owns_ends_with_it_however_it_ends"),
        ],
    ),
    (
        "`supervisor`: `one_for_one`",
        &[
            (SUPERVISORS, "strategies", "one_for_one_restarts_the_child_that_failed_and_no_other"),
            (SUPERVISORS, "strategies", "one_for_all_stops_the_others_in_reverse_and_starts_all_in_order"),
            (
                SUPERVISORS,
                "strategies",
                "rest_for_one_stops_those_behind_in_reverse_and_starts_them_in_order",
            ),
            (SUPERVISORS, "backoff", "delays_double_up_to_the_longest_and_begin_again_after_a_long_life"),
        ],
    ),
    (
        "`intensity`, `period`",
        &[
            (SUPERVISORS, "intensity", "with_one_restart_too_many_it_shuts_down_in_reverse_and_says_why"),
            (SUPERVISORS, "intensity", "restarts_that_are_longer_ago_than_the_window_do_not_count"),
        ],
    ),
    (
        "`permanent`, `transient`",
        &[(SUPERVISORS, "restarts", "each_kind_of_child_is_restarted_after_the_ends_it_says")],
    ),
    ("`significant` children", &[(SUPERVISORS, "ending", "it_goes_on_when_all_of_its_children_are_done")]),
    (
        "`shutdown`: a time",
        &[
            (
                SUPERVISORS,
                "ending",
                "a_child_that_ignores_that_it_is_cancelled_is_killed_when_its_time_is_over",
            ),
            (SUPERVISORS, "ending", "a_child_can_be_killed_without_being_asked"),
            (SUPERVISORS, "ending", "a_child_can_have_as_long_as_it_takes"),
            ("src/manifest", "tests", "a_supervisor_below_another_has_the_time_it_takes"),
        ],
    ),
    (
        "`simple_one_for_one`",
        &[
            (SUPERVISORS, "dynamic", "one_specification_starts_many_children_which_are_stopped_one_by_one"),
            (
                SUPERVISORS,
                "dynamic",
                "each_child_may_be_restarted_in_its_own_way_and_one_that_is_done_is_forgotten",
            ),
            (
                SUPERVISORS,
                "dynamic",
                "the_failures_of_all_children_count_together_but_starts_that_are_refused_do_not",
            ),
            (LUA, "children", "a_child_of_a_script_that_fails_too_often_is_removed_and_nothing_else_happens"),
        ],
    ),
    (
        "`start_child/2`",
        &[
            (SUPERVISORS, "dynamic", "a_child_that_fails_is_restarted_alone_as_what_it_was"),
            (SUPERVISORS, "dynamic", "a_child_has_the_frame_of_who_started_it_also_after_a_restart"),
            (LUA, "children", "a_script_starts_children_and_stops_those_that_it_started"),
        ],
    ),
    ("`max_children`", &[(SUPERVISORS, "dynamic", "there_are_as_many_children_as_it_says_and_no_more")]),
    (
        "shutdown of a `DynamicSupervisor`",
        &[(SUPERVISORS, "dynamic", "it_shuts_all_children_down_at_the_same_time")],
    ),
    ("`which_children/1`", &[(PROGRAM, "children", "restarts_and_the_last_exit_of_each_child_are_shown")]),
    (
        "a child whose code is broken",
        &[
            (
                SUPERVISORS,
                "quarantine",
                "a_quarantined_child_is_left_alone_with_every_strategy_and_its_siblings_go_on",
            ),
            (PROGRAM, "children", "a_quarantined_child_harms_no_sibling_and_is_started_again_by_a_reload"),
        ],
    ),
    (
        "a killed supervisor",
        &[
            (SUPERVISORS, "ending", "killed_it_takes_its_children_along_in_their_order_and_not_by_age"),
            (PROCESSES, "owners", "whoever_is_told_of_an_end_finds_nothing_left_of_what_it_owned"),
        ],
    ),
    (
        "`supervisor:start_child`",
        &[
            (SUPERVISORS, "control", "a_child_that_is_added_is_the_last_and_supervised_as_the_others"),
            (SUPERVISORS, "frames", "a_child_inherits_from_the_frame_of_whoever_adds_it_at_each_start"),
            (PROGRAM, "children", "a_child_that_a_reload_adds_has_its_supervisor_for_a_parent"),
        ],
    ),
    (
        "–",
        &[(
            PROGRAM,
            "trees",
            "children_are_shut_down_in_the_reverse_order_of_the_manifest_after_every_reload",
        )],
    ),
    (
        "release upgrade",
        &[
            (PROGRAM, "run", "a_process_becomes_its_new_script"),
            (
                PROGRAM,
                "children",
                "dynamic_children_that_are_something_else_are_restarted_as_what_they_were_started_with",
            ),
            (PROGRAM, "trees", "a_reload_that_is_not_undone_at_first_is_undone_later_and_shown_until_then"),
        ],
    ),
    (
        "`register`, `whereis`",
        &[(PROCESSES, "names", "a_process_has_as_many_names_as_it_is_given_each_once")],
    ),
    ("`application` of type", &[(PROGRAM, "run", "a_supervisor_that_gives_up_ends_the_program")]),
];

/// The rows of the tables that compare with OTP, each without the first bar.
fn rows() -> Vec<String> {
    let guide = fs::read_to_string(workspace().join("docs/src/processes.md")).expect("it is text");
    let mut rows = Vec::new();
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("| OTP |") {
            // After the line below the header.
            let table = lines.by_ref().skip(1).map_while(|line| line.strip_prefix("| "));
            rows.extend(table.map(str::to_owned));
        }
    }
    rows
}

#[test]
fn each_row_that_compares_with_otp_is_shown_by_tests_that_are_there() {
    let rows = rows();
    assert!(rows.len() > 30, "the tables were not found: {rows:?}");
    let mut shown = BTreeSet::new();
    for row in rows {
        let tests: Vec<_> = ROWS.iter().filter(|(begin, _)| row.starts_with(begin)).collect();
        let [(begin, tests)] = tests.as_slice() else {
            panic!("{} entries of `ROWS` are for the row `{row}`", tests.len())
        };
        assert!(shown.insert(begin), "two rows begin with `{begin}`");
        for (folder, file, test) in *tests {
            let path = workspace().join(folder).join(file).with_extension("rs");
            let text =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let is_there = text.contains(&format!("fn {test}()"));
            assert!(is_there, "`{row}`: {} has no test `{test}`", path.display());
        }
    }
}
