"""Names of all metrics, their labels, and which of them are shown where."""

# Metric -> its label, and an explanation for readers who do not know it.
METRICS = {
    "accuracy": ("Accuracy", "rows predicted correctly"),
    "balanced_accuracy": ("Balanced accuracy", "as if all classes were equally common"),
    "precision_macro": ("Precision, macro", "predictions of a class that are correct"),
    "recall_macro": ("Recall, macro", "rows of a class that are predicted correctly"),
    "f1_macro": ("F1, macro", "harmonic mean of precision and recall"),
    "precision_weighted": ("Precision, weighted", "the same, by class size"),
    "recall_weighted": ("Recall, weighted", "the same, by class size"),
    "f1_weighted": ("F1, weighted", "the same, by class size"),
    "roc_auc": ("ROC-AUC", "chance that a positive row ranks above a negative one"),
    "pr_auc": ("PR-AUC", "average precision over all thresholds"),
    "log_loss": ("Log loss", "lower is better; punishes confident errors"),
    "ece": ("Calibration error", "lower is better; confidence against accuracy"),
    "r2": ("R²", "share of the labels' variance that is predicted; 0 is their mean"),
    "rmse": ("RMSE", "root of the mean squared error, in the unit of the labels"),
    "mae": ("MAE", "mean absolute error, in the unit of the labels"),
    "spearman": ("Spearman", "rank correlation of labels and predictions"),
    "exact_match": ("Exact match", "texts equal to one of their references"),
    "bleu_1": ("BLEU-1", "words that a reference has, with a penalty for short texts"),
    "bleu_2": ("BLEU-2", "the same for words and pairs of words"),
    "bleu_3": ("BLEU-3", "the same for up to three words in a row"),
    "bleu_4": ("BLEU-4", "the same for up to four words in a row"),
    "rouge_l": ("ROUGE-L", "words in the order of a reference"),
    "chrf": ("chrF", "runs of characters that a reference has"),
    "cider_d": ("CIDEr-D", "from 0 to 10; runs of words, rare ones weigh more"),
    "word_error_rate": (
        "Word error rate",
        "lower is better; words to change, over the words of the reference",
    ),
}
CLASS_METRICS = {
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
}
GENERATE_METRICS = ("exact_match", "bleu_1", "bleu_4", "rouge_l", "chrf", "cider_d")
GENERATE_METRICS += ("word_error_rate",)
REGRESSION_METRICS = ("r2", "rmse", "mae", "spearman")
# Large figures at the top of a report, and which of them are in percent.
FIGURES = ("accuracy", "balanced_accuracy", "f1_macro", "roc_auc")
FIGURES += REGRESSION_METRICS
FIGURES += ("exact_match", "bleu_4", "cider_d", "chrf", "word_error_rate")
PERCENT = ("accuracy", "balanced_accuracy", "exact_match", "word_error_rate")
# Printed at the end of a run.
SHOWN_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "f1_macro",
    "roc_auc",
    "log_loss",
    "ece",
)
