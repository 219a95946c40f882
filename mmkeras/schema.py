"""Every name that crosses a boundary: features, signature keys, files, statuses."""

TEXT, IMAGE, AUDIO = "text", "image", "audio"
# The order in which branches are concatenated, as in the reference model.
MODALITIES = (TEXT, IMAGE, AUDIO)

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (TRAIN, VAL, TEST)

# Features of a tf.Example beside one bytes feature a modality, which is left out where
# the modality is absent; and SPLIT, where the row is one of a labelled table.
ID, LABEL, STATUS, SPLIT = "id", "label", "status", "split"
# Features that say what a medium is like, as it stood in its file; see media/facts.py.
IMAGE_WIDTH, IMAGE_HEIGHT = "image_width_px", "image_height_px"
IMAGE_CHANNELS = "image_channels"
AUDIO_SECONDS, AUDIO_RATE, AUDIO_CHANNELS = (
    "audio_seconds",
    "audio_rate_hz",
    "audio_channels",
)
AUDIO_CLIPPED, AUDIO_SILENT = "audio_clipped", "audio_silent"
TEXT_CHARACTERS = "text_characters"

# Inputs of the Keras model beside one a modality: 1.0 where the row has it.
PRESENT = "present"

# Outputs of the signatures.
PROBABILITIES, SCORE, EMBEDDING = "probabilities", "score", "embedding"
# Beside "embedding", one vector a modality, where training has aligned them.
EMBEDDINGS = {m: f"{m}_embedding" for m in MODALITIES}
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
FOLDS_FILE = "folds.json"
EXPLANATIONS_FILE, EXPLANATIONS_PAGE = "explanations.json", "explain.html"
LABELS_FILE = "labels.txt"
INGESTED_FILE = "ingested.json"  # beside shards of records
LOGS_DIR, CHECKPOINTS_DIR, EXPORT_DIR = "logs", "checkpoints", "export"
ALONE_DIR = "alone"  # of models trained on one modality each
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
