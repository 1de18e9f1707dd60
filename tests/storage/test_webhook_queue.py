from pathlib import Path

from shoe_classifier.storage.webhook_queue import Attempt, Delivery, WebhookQueue


def test_what_is_due_for_longest_comes_first(tmp_path: Path) -> None:
    queue = WebhookQueue(tmp_path / "webhooks.sqlite3", 10)
    queue.add("late", "{}", 20.0)
    queue.add("early", "{}", 10.0)
    assert queue.due(9.0) is None
    assert queue.due(30.0) == Delivery("early", "{}", 0)
    queue.postpone("early", 25.0)
    assert queue.due(30.0) == Delivery("late", "{}", 0)
    queue.remove("late")
    assert queue.due(30.0) == Delivery("early", "{}", 1)
    queue.close()


def test_it_is_bounded_and_survives_a_restart(tmp_path: Path) -> None:
    queue = WebhookQueue(tmp_path / "webhooks.sqlite3", 2)
    assert [queue.add(name, "{}", 0.0) for name in "abc"] == [True, True, False]
    queue.close()
    queue = WebhookQueue(tmp_path / "webhooks.sqlite3", 2)
    assert queue.waiting() == 2
    queue.close()


def test_the_latest_attempts_are_kept(tmp_path: Path) -> None:
    queue = WebhookQueue(tmp_path / "webhooks.sqlite3", 2)
    attempts = [Attempt(str(number), "2026-11-22T04:01:00.120Z", None if number % 2 else "x") for number in range(12)]
    for attempt in attempts:
        queue.note(attempt)
    assert queue.attempts() == attempts[:1:-1]
    queue.close()
