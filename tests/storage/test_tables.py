from shoe_classifier.storage.tables import (
    CHANGED_PICTURES,
    MODEL_VERSIONS,
    PREDICT,
    RETRAIN_JOBS,
    SYSTEM_METRICS,
    TABLES,
    TRAINING_DATA,
)


def test_columns_are_the_fields_in_their_order() -> None:
    assert SYSTEM_METRICS.columns == ("timestamp", "request_count", "avg_response_time", "model_uptime_status")
    assert all(table.key in table.columns for table in TABLES)


def test_how_columns_are_stored_follows_from_their_types() -> None:
    assert {table.name: set(table.json_columns) for table in TABLES if table.json_columns} == {
        PREDICT.name: {"probabilities"},
        MODEL_VERSIONS.name: {"labels", "metrics"},
        RETRAIN_JOBS.name: {"labels", "metrics", "baseline"},
        CHANGED_PICTURES.name: {"picture", "versions"},
    }
    assert {table.name: set(table.boolean_columns) for table in TABLES if table.boolean_columns} == {
        TRAINING_DATA.name: {"is_processed"},
        RETRAIN_JOBS.name: {"force"},
    }
    assert RETRAIN_JOBS.time_columns == {"created_at", "started_at", "finished_at"}
    assert SYSTEM_METRICS.time_columns == {"timestamp"}
