"""The losses of style, content and variation, in three tables.

`STYLE_LOSSES` compare statistics, `CONTENT_LOSSES` compare features, `VARIATION_LOSSES`
measure roughness. A recipe names a row of each table, or holds a row of your own.
"""

from jaxnst.linalg import eigh as eigh
from jaxnst.linalg import root_trace_by_products as root_trace_by_products
from jaxnst.losses.content import CONTENT_LOSSES as CONTENT_LOSSES
from jaxnst.losses.content import ContentLoss as ContentLoss
from jaxnst.losses.content import content_loss as content_loss
from jaxnst.losses.content import correlation_loss as correlation_loss
from jaxnst.losses.content import cross_sum as cross_sum
from jaxnst.losses.content import half_square_sum as half_square_sum
from jaxnst.losses.content import spread_sum as spread_sum
from jaxnst.losses.content import square_sum as square_sum
from jaxnst.losses.content import standardize as standardize
from jaxnst.losses.sliced import quantiles as quantiles
from jaxnst.losses.sliced import sliced_wasserstein_loss as sliced_wasserstein_loss
from jaxnst.losses.sliced import slices as slices
from jaxnst.losses.style import STYLE_LOSSES as STYLE_LOSSES
from jaxnst.losses.style import Gaussian as Gaussian
from jaxnst.losses.style import Moments as Moments
from jaxnst.losses.style import StyleLoss as StyleLoss
from jaxnst.losses.style import covariance as covariance
from jaxnst.losses.style import gaussian as gaussian
from jaxnst.losses.style import gram_loss as gram_loss
from jaxnst.losses.style import gram_matrix as gram_matrix
from jaxnst.losses.style import gram_sum as gram_sum
from jaxnst.losses.style import moment_sum as moment_sum
from jaxnst.losses.style import moments as moments
from jaxnst.losses.style import normalize_gradient as normalize_gradient
from jaxnst.losses.style import wasserstein2_loss as wasserstein2_loss
from jaxnst.losses.sums import WeightedSum as WeightedSum
from jaxnst.losses.sums import blend_means as blend_means
from jaxnst.losses.sums import sum_positions as sum_positions
from jaxnst.losses.sums import total_weight as total_weight
from jaxnst.losses.variation import VARIATION_LOSSES as VARIATION_LOSSES
from jaxnst.losses.variation import VariationLoss as VariationLoss
from jaxnst.losses.variation import differences as differences
from jaxnst.losses.variation import squared_variation as squared_variation
from jaxnst.losses.variation import total_variation as total_variation
