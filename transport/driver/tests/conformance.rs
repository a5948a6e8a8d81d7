//! Every scenario on every driver. A new driver is one more line at the end.

#![cfg(any(feature = "epoll", feature = "uring"))]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking; the scenarios are plain functions"
)]

mod scenarios;

/// One module of tests for a driver: `$make` makes it, `$small` one with room for four sockets.
macro_rules! conformance {
    ($driver:ident, $make:expr, $small:expr) => {
        mod $driver {
            use super::scenarios::{closing, datagrams, limits, opening, streams};
            scenarios!($make; streams:
                a_small_message_comes_back_over_tcp,
                eight_mebibytes_come_back_over_tcp,
                eight_mebibytes_come_back_over_unix,
                many_small_messages_ping_and_pong,
                parked_ends_ping_and_pong,
                a_spinning_driver_sees_newcomers_beside_a_busy_dialogue,
                two_drivers_on_one_thread_take_turns,
                large_bodies_are_received_in_place,
                unconsumed_bytes_are_shown_again_in_front,
                a_paused_sink_is_shown_the_rest_when_switched_on,
                a_sink_that_sips_gets_everything_in_order,
                reading_off_closes_the_window_and_on_goes_on,
                partial_writes_keep_their_order,
                sixteen_connections_get_their_share,
                an_adopted_socketpair_carries_bytes,
                an_adopted_tcp_socket_has_no_delay,
                accepted_and_connected_tcp_sockets_have_no_delay,
            );
            scenarios!($make; opening:
                a_closed_port_refuses,
                a_missing_path_is_not_found,
                an_address_in_use_names_the_fix,
                two_listeners_share_a_port_when_asked,
                unix_paths_and_abstract_names_connect,
                only_a_stale_socket_file_is_removed,
                a_dual_stack_listener_serves_both_families,
                a_connection_comes_from_the_local_address_asked_for,
                what_a_driver_cannot_carry_is_refused,
                a_listener_switched_off_lets_them_wait,
            );
            scenarios!($make; closing:
                a_graceful_close_delivers_all_and_then_ends,
                a_closing_socket_discards_what_comes,
                an_abort_resets_the_connection,
                an_abort_ends_a_graceful_close_that_hangs,
                a_connect_under_way_can_be_closed,
                a_reset_by_the_peer_breaks_once,
                a_reset_while_sending_breaks_once,
                a_last_word_is_heard_although_sending_failed,
                the_peers_end_leaves_our_direction_open,
                bytes_and_end_that_come_together_are_both_heard,
                stale_ids_are_ignored,
                a_waker_ends_a_park_from_another_thread,
                a_wake_before_the_park_is_not_lost,
                a_park_ends_at_its_deadline,
                shutdown_with_sends_in_flight_frees_everything,
                memory_comes_back_after_every_kind_of_close,
                an_empty_chain_sends_nothing,
            );
            scenarios!($make; datagrams:
                datagrams_come_back_over_ipv4,
                datagrams_come_back_over_ipv6,
                a_dual_stack_socket_answers_ipv4,
                a_burst_of_sixty_four_arrives_whole,
                a_burst_beyond_one_send_is_split,
                an_empty_datagram_arrives,
                ecn_bits_are_set_and_reported,
                a_burst_has_ecn_bits_of_its_own,
                an_answer_leaves_from_the_address_that_was_asked,
                a_datagram_too_long_is_an_event_and_not_sent,
                a_refused_datagram_is_not_fatal,
                many_peers_reach_one_socket,
                a_busy_socket_that_sleeps_finds_all_that_came_together,
                a_socket_switched_off_keeps_its_datagrams,
                an_adopted_datagram_socket_works,
                a_device_that_refuses_to_split_bursts_is_served_piece_by_piece,
                a_graceful_close_sends_queued_datagrams,
                a_full_send_buffer_delays_and_loses_nothing,
            );
            scenarios!($small; limits: a_full_table_refuses_and_recovers,);
        }
    };
}

/// Scenarios that look at what has arrived by the next poll.
macro_rules! prompt {
    ($module:ident, $make:expr) => {
        mod $module {
            use super::scenarios::{limits, streams};
            scenarios!($make; streams: a_driver_that_waited_takes_half_of_a_window_first,);
            scenarios!($make; limits: a_starved_socket_goes_on_when_memory_is_back,);
        }
    };
}

macro_rules! scenarios {
    ($make:expr; $file:ident: $($name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                $file::$name($make);
            }
        )*
    };
}

#[cfg(feature = "epoll")]
conformance!(epoll, crate::make_epoll, crate::make_small_epoll);
#[cfg(feature = "epoll")]
prompt!(prompt_epoll, crate::make_epoll);

#[cfg(feature = "epoll")]
fn make_epoll(pools: ringway_driver::SharedPools) -> ringway_driver::epoll::Epoll {
    let config = ringway_driver::epoll::EpollConfig::default();
    ringway_driver::epoll::Epoll::new(config, pools).unwrap()
}

#[cfg(feature = "epoll")]
fn make_small_epoll(pools: ringway_driver::SharedPools) -> ringway_driver::epoll::Epoll {
    let config = ringway_driver::epoll::EpollConfig { sockets_max: 4 };
    ringway_driver::epoll::Epoll::new(config, pools).unwrap()
}

#[cfg(feature = "uring")]
conformance!(uring, crate::make_uring, crate::make_small_uring);
#[cfg(feature = "uring")]
prompt!(prompt_uring, crate::make_uring);

#[cfg(feature = "uring")]
fn make_uring(pools: ringway_driver::SharedPools) -> ringway_driver::uring::Uring {
    let config = ringway_driver::uring::UringConfig::default();
    ringway_driver::uring::Uring::new(config, pools).unwrap()
}

#[cfg(feature = "uring")]
fn make_small_uring(pools: ringway_driver::SharedPools) -> ringway_driver::uring::Uring {
    let config = ringway_driver::uring::UringConfig {
        sockets_max: 4,
        ..Default::default()
    };
    ringway_driver::uring::Uring::new(config, pools).unwrap()
}

// The same kernels behind a network that is slow but loses nothing: to an engine that is still a driver.
#[cfg(feature = "epoll")]
conformance!(
    impaired_epoll,
    crate::make_impaired_epoll,
    crate::make_impaired_small_epoll
);

#[cfg(feature = "epoll")]
fn make_impaired_epoll(
    pools: ringway_driver::SharedPools,
) -> ringway_sim::Impair<ringway_driver::epoll::Epoll> {
    slow(make_epoll(pools))
}

#[cfg(feature = "epoll")]
fn make_impaired_small_epoll(
    pools: ringway_driver::SharedPools,
) -> ringway_sim::Impair<ringway_driver::epoll::Epoll> {
    slow(make_small_epoll(pools))
}

#[cfg(feature = "uring")]
conformance!(
    impaired_uring,
    crate::make_impaired_uring,
    crate::make_impaired_small_uring
);

#[cfg(feature = "uring")]
fn make_impaired_uring(
    pools: ringway_driver::SharedPools,
) -> ringway_sim::Impair<ringway_driver::uring::Uring> {
    slow(make_uring(pools))
}

#[cfg(feature = "uring")]
fn make_impaired_small_uring(
    pools: ringway_driver::SharedPools,
) -> ringway_sim::Impair<ringway_driver::uring::Uring> {
    slow(make_small_uring(pools))
}

fn slow<D: ringway_driver::Driver>(driver: D) -> ringway_sim::Impair<D> {
    let mut config = ringway_sim::PathConfig::default();
    config.link.delay = ringway_sim::Span::micros(20, 20);
    config.link.queue_bytes = 64 << 20;
    ringway_sim::Impair::new(driver, config, 1)
}
