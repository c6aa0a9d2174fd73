//! One suite for every store: what the docs of `hookonce::store` promise, each sentence a test.
//!
//! A new store adds one function to `store/bench.rs` and one line to the macro below.

#![expect(clippy::indexing_slicing, reason = "a test that panics has failed, as it should")]

#[cfg(feature = "postgres")]
#[path = "support/postgres_server.rs"]
#[expect(dead_code, reason = "tests/it uses the rest of it")]
mod postgres_server;
#[cfg(feature = "redis")]
#[path = "support/redis_cluster.rs"]
mod redis_cluster;
#[cfg(feature = "redis")]
#[path = "support/redis_server.rs"]
mod redis_server;

mod store {
    pub(crate) mod admit;
    pub(crate) mod bench;
    #[cfg(all(feature = "sqlite", feature = "redis"))]
    mod cached;
    pub(crate) mod claim;
    #[cfg(feature = "redis")]
    mod cluster;
    pub(crate) mod control;
    mod encrypted;
    pub(crate) mod erase;
    pub(crate) mod key_model;
    pub(crate) mod keys;
    pub(crate) mod model;
    pub(crate) mod moving;
    pub(crate) mod order;
    #[cfg(feature = "postgres")]
    mod postgres;
    #[cfg(feature = "postgres")]
    mod postgres_clocks;
    #[cfg(feature = "postgres")]
    mod postgres_given_up;
    #[cfg(feature = "postgres")]
    mod postgres_locks;
    #[cfg(feature = "postgres")]
    mod postgres_moving;
    pub(crate) mod prune;
    pub(crate) mod read;
    #[cfg(feature = "redis")]
    mod redis;
    #[cfg(feature = "redis")]
    mod redis_keyed;
    mod redis_safety;
    pub(crate) mod refusals;
    pub(crate) mod request;
    pub(crate) mod settle;
    #[cfg(feature = "sqlite")]
    mod sqlite;
    pub(crate) mod wish;
}

/// Runs every test of the suite on every store.
macro_rules! conformance {
    ($($group:ident { $($test:ident)* })*) => {
        mod on_memory { conformance!(@on memory $($group { $($test)* })*); }
        mod on_encrypted_memory { conformance!(@on encrypted_memory $($group { $($test)* })*); }
        #[cfg(feature = "postgres")]
        mod on_postgres { conformance!(@on postgres $($group { $($test)* })*); }
        #[cfg(feature = "redis")]
        mod on_redis { conformance!(@on redis $($group { $($test)* })*); }
        #[cfg(feature = "redis")]
        mod on_cluster { conformance!(@on cluster $($group { $($test)* })*); }
        #[cfg(feature = "redis")]
        mod on_valkey { conformance!(@on valkey $($group { $($test)* })*); }
        #[cfg(all(feature = "sqlite", feature = "redis"))]
        mod on_sqlite_behind_a_cache { conformance!(@on cached $($group { $($test)* })*); }
        #[cfg(feature = "sqlite")]
        mod on_sqlite { conformance!(@on sqlite $($group { $($test)* })*); }
        #[cfg(feature = "sqlite")]
        mod on_encrypted_sqlite { conformance!(@on encrypted_sqlite $($group { $($test)* })*); }
    };
    (@on $backend:ident $($group:ident { $($test:ident)* })*) => {
        $($(
            #[tokio::test]
            async fn $test() {
                crate::store::$group::$test(crate::store::bench::$backend().await).await;
            }
        )*)*

        #[test]
        fn random_sequences_of_verbs_agree_with_the_model() {
            crate::store::model::agrees(crate::store::bench::$backend);
        }

        #[test]
        fn random_sequences_of_keyed_verbs_agree_with_the_model() {
            crate::store::key_model::agrees(crate::store::bench::$backend);
        }
    };
}

/// Runs every test about moving house on every store that can.
macro_rules! conformance_of_moving {
    ($($test:ident)*) => {
        mod moving_on_memory { conformance_of_moving!(@on memory $($test)*); }
        #[cfg(feature = "postgres")]
        mod moving_on_postgres { conformance_of_moving!(@on postgres $($test)*); }
        #[cfg(feature = "redis")]
        mod moving_on_redis { conformance_of_moving!(@on redis $($test)*); }
        #[cfg(feature = "redis")]
        mod moving_on_cluster { conformance_of_moving!(@on cluster $($test)*); }
        #[cfg(feature = "redis")]
        mod moving_on_valkey { conformance_of_moving!(@on valkey $($test)*); }
        #[cfg(all(feature = "sqlite", feature = "redis"))]
        mod moving_on_sqlite_behind_a_cache { conformance_of_moving!(@on cached $($test)*); }
        #[cfg(feature = "sqlite")]
        mod moving_on_sqlite { conformance_of_moving!(@on sqlite $($test)*); }
    };
    (@on $backend:ident $($test:ident)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                crate::store::moving::$test(crate::store::bench::$backend().await).await;
            }
        )*
    };
}

/// Runs every test about order on every store that keeps it: a cluster cannot.
macro_rules! conformance_of_order {
    ($($test:ident)*) => {
        mod order_on_memory { conformance_of_order!(@on memory $($test)*); }
        #[cfg(feature = "postgres")]
        mod order_on_postgres { conformance_of_order!(@on postgres $($test)*); }
        #[cfg(feature = "redis")]
        mod order_on_redis { conformance_of_order!(@on redis $($test)*); }
        #[cfg(feature = "redis")]
        mod order_on_valkey { conformance_of_order!(@on valkey $($test)*); }
        #[cfg(all(feature = "sqlite", feature = "redis"))]
        mod order_on_sqlite_behind_a_cache { conformance_of_order!(@on cached $($test)*); }
        #[cfg(feature = "sqlite")]
        mod order_on_sqlite { conformance_of_order!(@on sqlite $($test)*); }
    };
    (@on $backend:ident $($test:ident)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                crate::store::order::$test(crate::store::bench::$backend().await).await;
            }
        )*
    };
}

conformance_of_order! {
    one_line_runs_one_after_another_and_lines_side_by_side
    one_call_may_admit_several_of_a_line
    handlers_and_the_unordered_have_no_part_in_a_line
    who_awaits_its_turn_is_shown_and_never_due
    a_retry_a_release_and_a_death_keep_the_others_waiting
    a_dead_one_blocks_and_keeps_its_place_when_it_is_redriven
    an_unblocked_one_lets_the_rest_go_on_and_goes_last
    a_redriven_one_blocks_again_when_it_dies_again
    all_of_a_handler_are_unblocked_at_once
    a_move_of_many_keeps_them_as_they_stand
    a_dead_one_is_skipped_where_its_handler_says_so_and_goes_last
    a_spent_budget_lets_the_next_one_go_on_where_it_is_skipped
    replays_and_held_ones_go_last
    an_event_sent_again_keeps_its_place
    a_killed_one_blocks_when_it_is_its_turn
    a_moved_line_stays_in_order_behind_the_one_that_is_there
    who_moves_away_lets_the_next_one_go_on
    what_was_pruned_is_in_nobodys_way
    events_admitted_at_once_run_in_one_order_and_one_at_a_time
}

conformance_of_moving! {
    everything_arrives_in_another_store
    everything_arrives_from_another_store
    a_move_there_and_back_brings_everything_back
    a_store_that_hands_over_lets_end_what_runs_and_begins_nothing
    a_sealed_store_refuses_every_write
    a_copy_called_off_gives_the_store_back
    once_the_target_opens_there_is_no_way_back
    a_copy_that_broke_off_goes_on_from_any_step
    a_store_is_filled_only_when_it_is_empty_and_only_by_its_copy
    a_store_that_is_filled_serves_nobody_until_it_is_finished
    a_source_on_its_way_goes_nowhere_else
    a_mark_that_is_carried_ends_when_it_would_have_ended
    a_key_in_progress_may_end_before_the_store_is_sealed
}

conformance! {
    admit {
        a_new_event_is_fresh_and_kept_byte_for_byte
        an_event_that_no_handler_wants_is_unrouted
        the_same_identity_again_is_a_duplicate_and_triggers_nothing
        a_duplicate_stays_one_while_the_first_is_leased_and_when_it_is_done
        one_identity_twice_in_one_call_is_decided_in_order
        one_identity_at_once_is_fresh_once
        an_event_sent_again_under_its_own_id_is_fresh_again
        an_event_without_identity_sent_again_under_its_own_id_is_fresh_again
        events_without_an_identity_are_always_fresh
        a_late_call_does_nothing_and_its_retry_is_fresh
        a_late_call_that_was_done_before_answers_as_it_did
        known_content_under_another_id_is_flagged
        known_content_under_another_id_is_held_where_the_source_says_so
        a_held_event_sent_again_is_held_again
        a_copy_under_its_own_identity_is_a_duplicate_not_held
        what_shadow_mode_let_in_is_marked_and_counted_and_hides_nothing
        sources_are_namespaces
        hostile_identities_stay_apart
        a_source_holds_no_more_than_its_cap
        only_the_newest_duplicates_are_kept_and_all_are_counted
    }
    claim {
        what_is_due_longest_comes_first
        a_claim_gets_no_more_than_it_asks_for_and_only_its_handlers
        what_is_not_due_yet_stays_and_is_told
        the_event_comes_whole
        a_live_lease_is_not_claimed_again
        a_lease_that_ran_out_is_claimed_again_and_its_attempt_is_written_down
        deaths_in_a_row_end_with_an_attempt_that_ends
        a_spent_budget_is_dead_unrun
        what_was_taken_for_dead_and_was_done_is_done
        what_was_given_back_and_killed_is_not_done
        a_claim_sent_again_gets_the_same_deliveries
        a_claim_sent_again_gets_only_what_it_still_holds
        a_late_claim_does_nothing
        a_late_claim_that_was_done_before_answers_as_it_did
        workers_at_once_share_nothing
    }
    control {
        what_was_said_of_a_handler_last_holds
    }
    settle {
        an_extended_lease_lives_on
        a_lost_lease_is_not_extended
        done_is_never_claimed_again
        a_retry_waits_until_it_is_due
        dead_is_shown_and_not_claimed
        a_settlement_is_lost_once_the_delivery_was_claimed_again
        a_settlement_sent_twice_is_kept_and_written_once
        a_settlement_after_its_lease_is_kept_while_nobody_else_claimed
        settlements_are_answered_in_order
        an_attempt_settled_as_died_counts_as_a_death
        a_release_is_uncounted_and_due_at_once
        a_release_fences_off_whoever_still_holds_the_lease
        a_claim_whose_answer_was_lost_is_released_by_its_id
        a_release_of_what_is_not_held_does_nothing
        only_the_newest_attempts_are_kept
    }
    wish {
        a_replay_makes_a_new_delivery_marked_as_one
        a_replay_sent_again_makes_nothing_new
        an_unrouted_event_can_be_replayed
        what_is_held_or_unknown_is_not_replayed
        a_redrive_gives_a_fresh_budget_and_numbers_go_on
        a_redrive_sent_again_does_not_renew_the_budget_twice
        a_redrive_sent_again_means_also_what_was_moved_since
        a_redrive_forgets_the_deaths_before_it
        a_redrive_of_a_handler_takes_its_dead_ones_only
        a_move_takes_what_is_queued_and_dead_and_leaves_the_rest
        a_kill_leaves_what_is_leased
        a_held_event_is_admitted_once
        a_late_wish_does_nothing
    }
    erase {
        an_erased_event_is_blank_and_stays_known
        an_event_erased_again_gets_the_same_answer
        an_event_whose_handler_runs_is_not_erased
        a_lease_that_ran_out_does_not_keep_an_event_from_being_erased
        an_erased_event_is_not_delivered_again
        a_held_event_that_is_erased_stays_held_and_goes_nowhere
        the_body_of_a_batch_goes_with_any_of_its_events
        what_is_unknown_or_late_is_not_erased
    }
    read {
        events_are_paged_newest_first
        events_are_filtered
        events_are_found_by_the_providers_id_whatever_their_identity
        who_waits_longest_is_known
        deliveries_are_paged_and_filtered
        deliveries_are_paged_oldest_first_from_an_id_on
        what_is_not_there_is_none
        an_event_stands_as_its_deliveries_do
        stats_count_exactly
        the_store_is_ready_and_says_what_it_survives
    }
    refusals {
        a_refused_request_is_kept_byte_for_byte
        refused_requests_are_paged_and_filtered
        the_newest_of_each_source_and_step_stay
        a_source_holds_no_more_bytes_than_its_cap
        one_that_is_kept_again_stays_as_it_is
        a_readmission_is_noted_once
        refused_requests_are_pruned_as_held_events_are
    }
    request {
        a_request_is_kept_for_all_its_events_and_each_has_its_own_bytes
        an_event_that_is_its_whole_request_keeps_no_other_one
        a_partly_known_batch_refers_only_from_what_is_fresh
        a_batch_sent_again_under_its_own_ids_changes_nothing
        a_request_goes_with_the_last_event_that_came_in_it
        more_events_than_one_call_carries_share_their_request
    }
    prune {
        finished_events_go_by_state_and_age
        what_is_open_never_goes
        a_mark_outlives_its_event_until_its_window_is_over
        a_mark_outlives_its_window_while_its_event_is_there
        known_content_is_forgotten_with_its_mark
        a_lot_is_not_exceeded
        a_redriven_event_is_open_again_and_stays
    }
    keys {
        a_free_key_is_started_and_shown
        one_key_at_once_is_started_once
        what_is_in_flight_says_when_to_come_back
        begun_again_by_its_owner_is_started_again
        begun_again_by_its_owner_has_its_lease_from_then_on
        a_late_begin_does_nothing
        another_scope_is_another_key
        another_fingerprint_is_a_mismatch_in_every_state
        a_completed_key_gives_its_answer_byte_for_byte
        every_status_and_no_header_is_kept_as_it_is
        a_completion_sent_twice_is_kept_and_the_first_stands
        who_is_not_the_owner_is_turned_away
        of_a_free_key_there_is_nothing_to_hold
        retention_ends_to_the_millisecond_and_the_key_is_free
        a_key_whose_retention_is_over_is_begun_once
        an_abandoned_key_is_free
        what_is_completed_is_not_abandoned
        an_extended_key_stays_in_progress
        a_lease_that_ran_out_leaves_an_unknown_outcome
        an_owner_whose_lease_ran_out_still_completes
        an_owner_whose_lease_ran_out_still_abandons
        an_outcome_marked_unknown_says_why
        an_unknown_outcome_is_kept_until_it_is_resolved
        an_unknown_outcome_is_retried_where_the_caller_says_so
        an_unknown_outcome_is_retried_once
        a_person_completes_an_unknown_outcome
        a_person_frees_an_unknown_outcome
        work_in_progress_is_not_resolved
        a_late_resolution_does_nothing
        keys_are_paged_those_begun_last_first
        keys_are_filtered
        gauges_count_what_is_open_by_api
        prune_takes_what_is_over_and_leaves_the_rest
        a_key_begun_anew_after_its_retention_is_not_pruned
        many_keys_at_once_are_begun_and_completed
    }
}
