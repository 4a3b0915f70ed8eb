"""Statistics of the features of one layer, and distances between them."""

from jaxnst.losses.content import CrossMoments as CrossMoments
from jaxnst.losses.content import Spread as Spread
from jaxnst.losses.content import content_loss as content_loss
from jaxnst.losses.content import correlation_loss as correlation_loss
from jaxnst.losses.content import cross_moments as cross_moments
from jaxnst.losses.content import spread as spread
from jaxnst.losses.content import standardize as standardize
from jaxnst.losses.linalg import eigh as eigh
from jaxnst.losses.linalg import float32 as float32
from jaxnst.losses.linalg import products as products
from jaxnst.losses.linalg import root_trace_by_eigenvalues as root_trace_by_eigenvalues
from jaxnst.losses.linalg import root_trace_by_products as root_trace_by_products
from jaxnst.losses.style import Gaussian as Gaussian
from jaxnst.losses.style import Moments as Moments
from jaxnst.losses.style import covariance as covariance
from jaxnst.losses.style import gaussian as gaussian
from jaxnst.losses.style import gram_loss as gram_loss
from jaxnst.losses.style import gram_matrix as gram_matrix
from jaxnst.losses.style import moments as moments
from jaxnst.losses.style import normalize_gradient as normalize_gradient
from jaxnst.losses.style import wasserstein2_loss as wasserstein2_loss
from jaxnst.losses.variation import Differences as Differences
from jaxnst.losses.variation import differences as differences
from jaxnst.losses.variation import squared_variation as squared_variation
from jaxnst.losses.variation import total_variation as total_variation
