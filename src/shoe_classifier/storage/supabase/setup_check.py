"""Whether a Supabase project is set up right: what the migrations make of one, compared with what there is."""

from typing import Any

from shoe_classifier.errors import NotFound, StoreUnavailable
from shoe_classifier.storage.supabase.api_errors import MIGRATE, translated
from shoe_classifier.storage.supabase.client import SupabaseClient
from shoe_classifier.storage.supabase.model_bucket import MODELS_BUCKET
from shoe_classifier.storage.tables import TABLES

_BUCKETS = ("uploads", MODELS_BUCKET)  # that the migrations create
REVISION = 4  # of supabase/migrations
# Columns that only Supabase has.
_MORE_COLUMNS = {"Retrain_Jobs": ("claimed_by", "heartbeat_at"), "System_Metrics": ("id",)}
_COLUMNS = {
    **{table.name: {*table.columns, *_MORE_COLUMNS.get(table.name, ())} for table in TABLES},
    "Prediction_Counts": {"day", "predicted_class", "model_version", "decision", "rows"},
    "Training_Counts": {"shoe_class", "split", "is_processed", "rows"},
}
_INDEXES = {
    "Predict": "Predict_pkey predict_pictures predict_unreviewed predict_undecided predict_drawn predict_reviewed"
    " predict_class predict_decision predict_version",
    "Training_Data": "Training_Data_pkey Training_Data_sha256_key training_data_unprocessed training_data_processed"
    " training_data_class training_data_split",
    "Model_Versions": "Model_Versions_pkey model_versions_sha256 model_versions_created model_versions_one_live",
    "Retrain_Jobs": "Retrain_Jobs_pkey retrain_jobs_one_running",
    "System_Metrics": "System_Metrics_pkey system_metrics_timestamp",
    "Learned_Pictures": "Learned_Pictures_pkey learned_pictures_training_id",
    "Deleted_Pictures": "Deleted_Pictures_pkey",
    "Label_Changes": "Label_Changes_pkey",
    "Changed_Pictures": "Changed_Pictures_pkey changed_pictures_sha256",
    "Kept_Pictures": "Kept_Pictures_pkey",
    "Audit_Log": "Audit_Log_pkey audit_log_refused",
    "Prediction_Counts": "Prediction_Counts_pkey",
    "Training_Counts": "Training_Counts_pkey",
}
_FUNCTIONS = {
    "add_training_data": "rows json",
    "labels_of_hashes": "hashes text[]",
    "training_labels": "",
    "count_unlearned": "version text",
    "relabel_training_data": "row_id uuid, label text",
    "delete_training_data": "row_id uuid",
    "deleted_pictures": "",
    "fail_lost_jobs": "instance uuid, silent_seconds double precision, reason text",
    "start_retrain": "job json, instance uuid",
    "report_retrain": "job json, instance uuid",
    "finish_retrain": "job json, instance uuid",
    "prepare_publication": "candidate json, learned json",
    "set_live_version": "wanted text",
    "training_pictures": "row_ids uuid[]",
    "relabel_pictures": "row_ids uuid[], label text",
    "delete_pictures": "row_ids uuid[]",
    "label_counts": "",
    "change_label": "change json",
    "undo_change": "undone uuid",
    "removed_pictures": "last uuid",
    "settle_changes": "last uuid",
    "label_changes": "",
    "kept_pictures": "",
    "review_prediction": "prediction_id uuid, label text, kind text, reviewed timestamp with time zone, queued json",
    "pictures_in_use": "image_paths text[]",
    "expendable_predictions": "after uuid, before uuid, with_picture boolean, max_rows integer",
    "kept_predictions": "",
    "picture_sizes": "after text, max_rows integer",
    "count_predictions": "label text, decided text, version text, first date, last date",
    "count_pictures": "label text, wanted_split text, learnt boolean",
    "decision_counts": "first date",
    "page_of_predictions": "label text, decided text, version text, since timestamp with time zone,"
    " until timestamp with time zone, before uuid, max_rows integer",
    "first_id_at": "moment timestamp without time zone",
    "describe_shoe_classifier": "",
}


def check_setup(client: SupabaseClient, pictures_bucket: str) -> list[tuple[bool, str]]:
    """Compare the project with what the migrations make of one.

    Returns:
        For each part, whether it is right, and a sentence about it that says how to correct it if it is not.

    Raises:
        StoreUnavailable: the project does not answer.
    """
    try:
        found: Any = translated(client.client.rpc("describe_shoe_classifier", {}).execute).data
    except StoreUnavailable as error:
        if error.again:
            raise
        return [(False, error.detail)]
    lines = [(True, "SUPABASE_URL answers, and SUPABASE_KEY is a service key.")]
    lines += _check_revision(found["revision"])
    lines += [_check_table(name, (found["tables"] or {}).get(name)) for name in _COLUMNS]
    lines.append(_check_functions(found.get("functions") or {}))
    return lines + [_check_bucket(client, name) for name in (pictures_bucket, MODELS_BUCKET)]


def _check_bucket(client: SupabaseClient, name: str) -> tuple[bool, str]:
    try:
        bucket = client.call(lambda: client.client.storage.get_bucket(name))
    except NotFound:
        return False, f"Bucket {name}: expected it to exist; received none. {_create_bucket(name)}"
    except StoreUnavailable as error:
        if error.again:
            raise
        return False, f"Bucket {name}: {error.detail}"
    if bucket.public:
        return False, f"Bucket {name}: expected it to be private; received a public one. Make it private."
    return True, f"Bucket {name}: exists and is private."


def _create_bucket(name: str) -> str:
    if name in _BUCKETS:
        return MIGRATE
    return f"Create a private bucket {name} in the project's Storage, or set SUPABASE_BUCKET to an existing one."


def _check_revision(found: int) -> list[tuple[bool, str]]:
    if found == REVISION:
        return []
    advice = MIGRATE if found < REVISION else "A newer release has migrated the project: update this service."
    return [(False, f"Expected revision {REVISION} of the migrations; received {found}. {advice}")]


def _check_table(name: str, found: dict[str, Any] | None) -> tuple[bool, str]:
    if found is None:
        return False, f"Table {name}: expected it to exist; received none. {MIGRATE}"
    for kind, expected in (("columns", _COLUMNS[name]), ("indexes", set(_INDEXES[name].split()))):
        missing = sorted(expected - set(found[kind] or []))
        if missing:
            return False, f"Table {name}: expected the {kind} {', '.join(missing)}; received none. {MIGRATE}"
    if not found["writable"]:
        return False, f"Table {name}: expected the service key to have read and write access; it has not. {MIGRATE}"
    if not found["row_level_security"]:
        return False, f"Table {name}: expected row level security; it is off, so anyone may read the table. {MIGRATE}"
    if found["policies"]:
        return False, f"Table {name}: expected no policies; received {found['policies']}. Remove them."
    return True, f"Table {name}: columns, indexes and row level security are right."


def _check_functions(found: dict[str, list[str]]) -> tuple[bool, str]:
    for name, arguments in _FUNCTIONS.items():
        if found.get(name) != [arguments]:  # a second one of that name makes every call ambiguous
            received = " and ".join(f"{name}({other})" for other in found.get(name, [])) or "none"
            return False, f"Functions: expected {name}({arguments}) alone; received {received}. {MIGRATE}"
    return True, "Functions: their arguments are right."
