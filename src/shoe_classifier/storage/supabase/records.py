"""What the queries of all tables share: the project's client and buckets, and this machine's outbox."""

from collections.abc import Callable, Sequence

from shoe_classifier.settings import Settings
from shoe_classifier.storage.filters import Condition
from shoe_classifier.storage.supabase.cache import PictureCache
from shoe_classifier.storage.supabase.client import SupabaseClient
from shoe_classifier.storage.supabase.model_bucket import ModelBucket
from shoe_classifier.storage.supabase.outbox import Outbox
from shoe_classifier.storage.supabase.picture_bucket import PictureBucket
from shoe_classifier.storage.supabase.row_reader import RowReader, decode
from shoe_classifier.storage.tables import Row, Table


class Records:
    """The records of a Supabase project. Each of its subclasses queries one table; `store.SupabaseStore` joins them."""

    def __init__(self, settings: Settings):
        assert settings.supabase_url and settings.supabase_key
        key = settings.supabase_key.get_secret_value()
        self._client = SupabaseClient(settings.supabase_url, key, settings.supabase_timeout_seconds)
        folder = settings.dataset_dir
        self._outbox = Outbox(folder / "outbox.sqlite3", settings.outbox_max_rows, settings.outbox_max_bytes)
        cache = PictureCache(folder / "cache", settings.store_cache_bytes)
        self._pictures = PictureBucket(
            self._client, settings.supabase_bucket, self._outbox, cache, settings.file_url_seconds
        )
        self._models = ModelBucket(self._client)
        self._rows = RowReader(self._client)

    def _newest(
        self,
        table: Table[Row],
        limit: int,
        before: str | None,
        conditions: Sequence[Condition],
        stored: Callable[[], list[Row]],
    ) -> list[Row]:
        """Join what is queued with what `stored` finds in the project."""
        # The outbox first: a row that is sent in between is then found twice instead of not at all.
        queued = self._outbox.newest(table.name, limit, before, conditions)
        rows = {getattr(row, table.key): row for row in stored()}
        for row in queued:
            rows.setdefault(row[table.key], decode(table, row))
        return [rows[key] for key in sorted(rows, reverse=True)[:limit]]
