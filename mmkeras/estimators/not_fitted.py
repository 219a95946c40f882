"""Error of an estimator without a model."""

from sklearn import exceptions

from mmkeras.errors import UserError


class NotFittedError(UserError, exceptions.NotFittedError):
    """Use of an estimator before `fit`; an AttributeError too, as scikit-learn's."""
