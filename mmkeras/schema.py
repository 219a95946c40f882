"""Names shared by tables, tf.Examples, models, signatures and files."""

# Columns that need no declaration, in the order of the branches, and their types.
MODALITIES = ("text", "image", "audio")

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (TRAIN, VAL, TEST)
# Name of a split in tables and of folders, in lower case -> the split.
SPLIT_NAMES = {"train": TRAIN, "training": TRAIN, "test": TEST, "testing": TEST}
SPLIT_NAMES |= dict.fromkeys(("val", "valid", "validation", "dev"), VAL)

# Features of a tf.Example, which also has one feature per present column, named by
# `feature_name`. SPLIT exists in rows of a labelled table.
ID, LABEL, STATUS, SPLIT = "id", "label", "status", "split"
# Inputs of the Keras model next to those per branch: 1.0 if present, else 0.0; and of a
# generator the token ids of the text so far.
PRESENT, TOKENS = "present", "tokens"

# Outputs of the signatures.
PROBABILITIES, SCORE, EMBEDDING = "probabilities", "score", "embedding"
VALUE = "value"  # of regression, in the place of probabilities, label and score
# Of generated texts: the best one, with its score, and the best n with theirs.
GENERATED, N_BEST, N_BEST_SCORE = "text", "n_best", "n_best_score"
SERVING_DEFAULT, CLASSIFY, EMBED = "serving_default", "classify", "embed"
# Signature from texts to their aligned vectors, if the label is aligned.
EMBED_TEXT, EMBED_TEXT_INPUT = "embed_text", "text"
# Signature that describes the inputs; its input is ignored.
COLUMNS, COLUMN_NAMES, COLUMN_TYPES = "columns", "name", "type"
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
FOLDS_FILE, TUNE_FILE = "folds.json", "tune.json"
ENSEMBLE_FILE = "ensemble.json"
EXPLANATIONS_FILE, EXPLANATIONS_PAGE = "explanations.json", "explain.html"
LABELS_FILE = "labels.txt"
INGESTED_FILE = "ingested.json"  # in a folder of TFRecord shards
LOGS_DIR, CHECKPOINTS_DIR, EXPORT_DIR = "logs", "checkpoints", "export"
ALONE_DIR = "alone"  # models trained on one branch each
MEMBERS_DIR = "members"  # of an ensemble
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"


def feature_name(column: str) -> str:
    """Returns the feature of a column in a tf.Example of training data."""
    return f"column_{column}" if column in (ID, LABEL, STATUS, SPLIT) else column


def embedding_name(branch: str) -> str:
    """Returns the name of the output with the vectors of an aligned branch."""
    return f"{branch}_{EMBEDDING}"
