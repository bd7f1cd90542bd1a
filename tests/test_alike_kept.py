"""What is told of nodes that keep no copies holds for those that do: requests, reads, listings, ends and beginnings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests import test_data, test_listing, test_posts
from tests.data_kept_kit import KeptCluster


class WithCopies(KeptCluster):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{"copies": 2, **settings})


class Two(test_posts.Two, WithCopies):
    pass


ENDS: list[Callable[[], None]] = [
    test_data.test_fourteen_stages_one_after_the_other_work_and_a_fifteenth_is_a_mistake,
    test_data.test_none_means_nothing_also_from_a_source,
    test_data.test_bad_keys_and_what_cannot_travel_are_set_aside_and_the_rest_goes_on,
    test_data.test_an_endless_source_that_is_quiet_is_not_asked_all_the_time,
    test_data.test_a_blocking_read_that_does_not_come_back_holds_up_nothing_else,
    test_data.test_a_node_that_is_never_idle_does_not_keep_a_few_records_to_itself,
    test_data.test_an_owner_that_takes_nothing_stops_the_sources,
    test_data.test_a_stage_whose_consumer_takes_nothing_stops_and_so_do_the_sources,
    test_data.test_a_report_of_who_is_no_member_counts_for_nothing,
    test_data.test_any_node_answers_for_any_key_and_creates_nothing,
    test_data.test_who_is_not_there_to_answer_is_told_within_its_time,
    test_data.test_before_the_partition_nothing_can_be_read,
    test_data.test_the_end_is_told_once_however_often_time_passes,
]
POSTS: list[Callable[[], None]] = [
    test_posts.test_a_line_that_a_step_does_not_take_is_named_and_nothing_is_applied,
    test_posts.test_nothing_is_taken_that_would_come_after_the_end_of_a_job,
    test_posts.test_a_line_without_a_record_or_of_null_is_committed,
    test_posts.test_a_step_of_a_stage_that_raises_is_set_aside_and_the_others_count,
    test_posts.test_a_number_is_for_one_line_whatever_its_key,
    test_posts.test_half_of_a_line_may_have_been_applied_before,
    test_posts.test_only_sources_that_are_posted_to_are_known,
    test_posts.test_what_goes_straight_to_a_sink_is_written_when_all_else_is_applied,
    test_posts.test_an_ask_gives_the_outputs_that_nobody_else_reads,
    test_posts.test_an_ask_whose_step_raises_is_told_and_changes_nothing,
    test_posts.test_a_node_without_slots_takes_posts_too,
    test_posts.test_too_many_at_once_are_told_to_come_again,
    test_posts.test_out_of_touch_with_the_majority_nothing_is_taken,
    test_posts.test_an_owner_that_does_not_answer_leaves_the_outcome_unknown,
]
PAGES: list[Callable[[], None]] = [
    test_listing.test_the_last_page_says_so_also_when_it_is_just_full,
    test_listing.test_keys_that_come_later_do_not_disturb_who_is_on_his_way,
    test_listing.test_pages_and_answers_are_bounded_in_bytes_and_a_large_key_fits,
    test_listing.test_too_many_pages_at_once_are_refused,
    test_listing.test_before_the_partition_and_without_the_majority_there_are_no_pages,
    test_listing.test_an_owner_that_does_not_answer_is_waited_for_and_then_told,
]


def named(test: Callable[[], None]) -> str:
    return test.__name__.removeprefix("test_")


@pytest.mark.parametrize("test", ENDS, ids=named)
def test_jobs_and_reads(test: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_data, "Cluster", WithCopies)
    test()


@pytest.mark.parametrize("test", POSTS, ids=named)
def test_requests(test: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_posts, "Two", Two)
    test()


@pytest.mark.parametrize("test", PAGES, ids=named)
def test_listings(test: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_listing, "Cluster", WithCopies)
    monkeypatch.setattr(test_listing, "Standing", type("Standing", (WithCopies,), {}))
    test()
