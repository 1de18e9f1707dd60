from pathlib import Path

from shoe_classifier.storage.webhook_queue import Delivery, WebhookQueue


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
