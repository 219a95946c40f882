"""Every name that crosses a boundary: features, signature keys, files, statuses."""

TEXT, IMAGE, AUDIO = "text", "image", "audio"
# The order in which branches are concatenated, as in the reference model.
MODALITIES = (TEXT, IMAGE, AUDIO)

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (TRAIN, VAL, TEST)

# Features of a tf.Example beside one bytes feature a modality (b"" when absent).
ID, LABEL, STATUS = "id", "label", "status"

# Inputs of the Keras model beside one a modality: 1.0 where the row has it.
PRESENT = "present"

# Outputs of the signatures.
PROBABILITIES, SCORE, EMBEDDING = "probabilities", "score", "embedding"
SERVING_DEFAULT, CLASSIFY, EMBED = "serving_default", "classify", "embed"
CLASSIFY_INPUT, CLASSIFY_CLASSES, CLASSIFY_SCORES = "inputs", "classes", "scores"

# Between several labels of one row, in the table and in `label`.
LABEL_SEPARATOR = "|"

# What `status` says of a row; several are joined by "; ", as in
# "image absent; audio unreadable".
OK, ABSENT, UNREADABLE = "ok", "absent", "unreadable"
STATUS_SEPARATOR = "; "

# Columns of predictions.csv; behind them stands one a class.
PREDICTION_COLUMNS = ("id", "label", "predicted", "score", "status")

# Files of a run folder.
CONFIG_FILE = "config.yaml"
ANALYSIS_FILE = "analysis.json"
MODEL_FILE = "model.keras"
METRICS_FILE = "metrics.json"
REPORT_FILE = "report.html"
PREDICTIONS_FILE = "predictions.csv"
MANIFEST_FILE = "manifest.json"
REJECTED_FILE = "rejected.csv"
HISTORY_FILE = "history.json"
LABELS_FILE = "labels.txt"
LOGS_DIR, CHECKPOINTS_DIR, EXPORT_DIR = "logs", "checkpoints", "export"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
