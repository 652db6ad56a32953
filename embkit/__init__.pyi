# What a type checker sees: __init__.py imports a name when it is first asked for.

from . import (
    advice as advice,
)
from . import (
    data as data,
)
from . import (
    evaluation as evaluation,
)
from . import (
    exercises as exercises,
)
from . import (
    export as export,
)
from . import (
    losses as losses,
)
from . import (
    models as models,
)
from . import (
    pairs as pairs,
)
from . import (
    plots as plots,
)
from . import (
    runs as runs,
)
from . import (
    search as search,
)
from . import (
    space as space,
)
from . import (
    synthetic as synthetic,
)
from . import (
    training as training,
)
from . import (
    widgets as widgets,
)
from .advice.advise import advise as advise
from .auditing.report import audit as audit
from .data import Domain as Domain
from .data import load_domain as load_domain
from .errors import EmbkitError as EmbkitError
from .evaluation.intervals import mean_interval as mean_interval
from .evaluation.intervals import paired_test as paired_test
from .evaluation.ranking import (
    evaluate as evaluate,
)
from .evaluation.ranking import (
    leaderboard as leaderboard,
)
from .evaluation.ranking import (
    rank as rank,
)
from .evaluation.ranking import (
    search_side_by_side as search_side_by_side,
)
from .evaluation.report import compare as compare
from .evaluation.scores import Scores as Scores
from .evaluation.truncation import evaluate_sizes as evaluate_sizes
from .export.export import export_model as export_model
from .models.encoding import encode as encode
from .models.loading import load_model as load_model
from .pairs.mining import mine as mine
from .recipes.recipe import Recipe as Recipe
from .recipes.recipe import preset as preset
from .runs import Run as Run
from .search.index import exact_search as exact_search
from .session import paths as paths
from .session import setup as setup
from .training.experiments import tune as tune
from .training.forecasting import forecast as forecast
from .training.heads import fit_head as fit_head
from .training.trainer import train as train
from .training.trainer import training_pairs as training_pairs
from .widgets.live_training import train_live as train_live
