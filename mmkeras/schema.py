"""Names shared by tables, tf.Examples, models, signatures and files."""

TEXT, IMAGE, AUDIO = "text", "image", "audio"
# Order in which branches are concatenated, as in the reference model.
MODALITIES = (TEXT, IMAGE, AUDIO)

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (TRAIN, VAL, TEST)

# Features of a tf.Example, which also has one bytes feature per present modality. SPLIT
# exists in rows of a labelled table.
ID, LABEL, STATUS, SPLIT = "id", "label", "status", "split"
# Features with properties of the original files; see metadata.py of each modality.
IMAGE_WIDTH, IMAGE_HEIGHT = "image_width_px", "image_height_px"
IMAGE_CHANNELS = "image_channels"
AUDIO_SECONDS, AUDIO_RATE, AUDIO_CHANNELS = (
    "audio_seconds",
    "audio_rate_hz",
    "audio_channels",
)
AUDIO_CLIPPED, AUDIO_SILENT = "audio_clipped", "audio_silent"
TEXT_CHARACTERS = "text_characters"

# Input of the Keras model next to those per modality: 1.0 if present, else 0.0.
PRESENT = "present"

# Outputs of the signatures.
PROBABILITIES, SCORE, EMBEDDING = "probabilities", "score", "embedding"
VALUE = "value"  # of regression, in the place of probabilities, label and score
# One vector per aligned modality.
EMBEDDINGS = {m: f"{m}_embedding" for m in MODALITIES}
SERVING_DEFAULT, CLASSIFY, EMBED = "serving_default", "classify", "embed"
CLASSIFY_INPUT, CLASSIFY_CLASSES, CLASSIFY_SCORES = "inputs", "classes", "scores"
# In the place of classify.
REGRESS, REGRESS_INPUT, REGRESS_OUTPUT = "regress", "inputs", "outputs"

# Separator of several labels of a row, in the table and in `label`.
LABEL_SEPARATOR = "|"

# Values of `status`, as in "image absent; audio unreadable".
OK, ABSENT, UNREADABLE = "ok", "absent", "unreadable"
STATUS_SEPARATOR = "; "

# First columns of predictions.csv; one per class follows.
PREDICTION_COLUMNS = ("id", "label", "predicted", "score", "status")

# Files of a run folder.
CONFIG_FILE = "config.yaml"
ANALYSIS_FILE = "analysis.json"
MODEL_FILE = "model.keras"
METRICS_FILE = "metrics.json"
CONFUSION_FILE = "confusion.csv"
REPORT_FILE = "report.html"
PREDICTIONS_FILE = "predictions.csv"
MANIFEST_FILE = "manifest.json"
REJECTED_FILE, WARNINGS_FILE = "rejected.csv", "warnings.csv"
HISTORY_FILE = "history.json"
FOLDS_FILE = "folds.json"
EXPLANATIONS_FILE, EXPLANATIONS_PAGE = "explanations.json", "explain.html"
LABELS_FILE = "labels.txt"
INGESTED_FILE = "ingested.json"  # in a folder of TFRecord shards
LOGS_DIR, CHECKPOINTS_DIR, EXPORT_DIR = "logs", "checkpoints", "export"
ALONE_DIR = "alone"  # models trained on one modality each
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
