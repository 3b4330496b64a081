"""The building blocks of Dual-ViT: a path of pixel tokens, and one of few semantic tokens beside it.

Yao, Li, Pan, Wang, Zhang, Mei: Dual Vision Transformer, TPAMI 2023.

Blocks take and return tokens row by row `[B, N, D]`; a map is a view of them with its channels last, so that the
depthwise convolution copies nothing. Masks are True where a token is real; None means that all are.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit_encoders.depthwise_ffn import DepthwiseFFN, Grid, as_map, as_tokens

OUTER_EPS = 1e-6
"""Of the norms around the blocks; those inside and behind embeddings keep torch's 1e-5."""
LAYER_SCALE = 1e-6


def initialise(module: nn.Module) -> None:
    """The published initial weights of one layer; meant for `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)


def attend(
    heads: int,
    mask: Bool[Tensor, "B S"] | None,
    query: Float[Tensor, "B N D"],
    key: Float[Tensor, "B S D"],
    value: Float[Tensor, "B S D"],
) -> Float[Tensor, "B N D"]:
    """softmax(q k^T / sqrt(D / heads)) v in each head; zero in samples without a real key."""
    query, key, value = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    if mask is None:
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    nothing = ~mask.any(1, keepdim=True)
    allowed = (mask | nothing)[:, None, None].expand(-1, 1, query.shape[2], -1)
    out = F.scaled_dot_product_attention(query, key, value, allowed).transpose(1, 2).flatten(2)
    return out.masked_fill(nothing.unsqueeze(2), 0)


class Residual(nn.Module):
    """`x + gamma * update` with a learned scale a channel; in training the update is dropped in whole samples.

    Scale and drop are multiplied first: they are small, the tokens are not.

    Args:
        dim: D.
        drop_path: rate of dropped samples.
    """

    def __init__(self, dim: int, drop_path: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), LAYER_SCALE))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "B N D"], update: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        scale = self.drop_path(self.gamma.expand(len(x), 1, -1))
        return torch.addcmul(x, scale.to(x.dtype), update.to(x.dtype))


class DualBlock(nn.Module):
    """Pixel tokens and semantic tokens that read each other; with x^ = LN(x) and semantics s:

        s += g1 * SelfAttention(LN s)
        s += g2 * Attention(query = LN s, key and value = x^)
        s += g3 * MLP(LN s)
        x += G1 * Linear(Attention(query = x^, key and value = LN s))
        x += G2 * FFN(LN x)

    Attention costs pixels times semantic tokens instead of pixels squared.

    Args:
        dim: D.
        heads: of each attention.
        ratio: hidden width of the pixels' FFN over D.
        drop_path: rate of stochastic depth.
    """

    def __init__(self, dim: int, heads: int, ratio: int, drop_path: float = 0.0):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim, eps=OUTER_EPS)
        self.pixel_qkv = nn.Linear(dim, 3 * dim)
        self.pixel_projection = nn.Linear(dim, dim)
        self.pixel_residual = Residual(dim, drop_path)
        self.ffn_norm = nn.LayerNorm(dim, eps=OUTER_EPS)
        self.ffn = DepthwiseFFN(dim, ratio)
        self.ffn_residual = Residual(dim, drop_path)

        self.self_qkv = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 3 * dim))
        self.self_residual = Residual(dim, drop_path)
        self.semantic_query = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim))
        self.cross_residual = Residual(dim, drop_path)
        self.semantic_mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.ReLU(inplace=True), nn.Linear(4 * dim, dim)
        )
        self.mlp_residual = Residual(dim, drop_path)
        self.semantic_kv = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim))

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        semantics: Float[Tensor, "B S D"],
        grid: Grid,
        mask: Bool[Tensor, "B N"] | None = None,
        semantic_mask: Bool[Tensor, "B S"] | None = None,
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B S D"]]:
        query, key, value = self.pixel_qkv(self.norm(x)).chunk(3, 2)
        update = attend(self.heads, semantic_mask, *self.self_qkv(semantics).chunk(3, 2))
        semantics = self.self_residual(semantics, update)
        update = attend(self.heads, mask, self.semantic_query(semantics), key, value)
        semantics = self.cross_residual(semantics, update)
        semantics = self.mlp_residual(semantics, self.semantic_mlp(semantics))
        update = attend(self.heads, semantic_mask, query, *self.semantic_kv(semantics).chunk(2, 2))
        x = self.pixel_residual(x, self.pixel_projection(update))
        return self.ffn_residual(x, self.ffn(self.ffn_norm(x), grid, mask)), semantics


class MergeBlock(nn.Module):
    """Self-attention over pixel and semantic tokens as one sequence z = [x; s]; each kind has its own MLP:

        z += G1 * Linear(SelfAttention(LN z))
        x += G2 * FFN(LN x),  s += G2 * MLP(LN s)

    Args:
        dim: D.
        heads: of the attention.
        ratio: hidden width of the pixels' FFN over D.
        drop_path: rate of stochastic depth.
    """

    def __init__(self, dim: int, heads: int, ratio: int, drop_path: float = 0.0):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim, eps=OUTER_EPS)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.projection = nn.Linear(dim, dim)
        self.residual = Residual(dim, drop_path)
        self.ffn_norm = nn.LayerNorm(dim, eps=OUTER_EPS)
        self.ffn = DepthwiseFFN(dim, ratio)
        self.semantic_mlp: nn.Sequential | None = nn.Sequential(
            nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
        )
        self.ffn_residual = Residual(dim, drop_path)

    def forward(
        self, z: Float[Tensor, "B N D"], grid: Grid, mask: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B _ D"]:
        """`z` is the cells of the grid and then the semantic tokens, which are no longer there where nobody is going
        to read them: in a block without `semantic_mlp`."""
        z = self.residual(z, self.projection(attend(self.heads, mask, *self.qkv(self.norm(z)).chunk(3, 2))))
        pixels = grid[0] * grid[1]
        pixel_mask = None if mask is None else mask[:, :pixels]
        if self.semantic_mlp is None:
            x = z[:, :pixels]
            return self.ffn_residual(x, self.ffn(self.ffn_norm(x), grid, pixel_mask))
        normed = self.ffn_norm(z)
        updates = self.ffn(normed[:, :pixels], grid, pixel_mask), self.semantic_mlp(normed[:, pixels:])
        return self.ffn_residual(z, torch.cat(updates, 1))


class ClassBlock(nn.Module):
    """The class token, which is the first, reads all tokens and itself; the others stay as they are:

        c += Linear(Attention(query = LN c, key and value = LN [c; z])),  c += MLP(LN c)

    Args:
        dim: D.
        heads: of the attention.
        ratio: hidden width of the MLP over D.
    """

    def __init__(self, dim: int, heads: int, ratio: int = 2):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim, eps=OUTER_EPS)
        self.query, self.kv = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.projection = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim, eps=OUTER_EPS), nn.Linear(dim, ratio * dim), nn.GELU(), nn.Linear(ratio * dim, dim)
        )

    def forward(
        self, tokens: Float[Tensor, "B N D"], mask: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B 1 D"]:
        """The new class token alone."""
        normed, token = self.norm(tokens), tokens[:, :1]
        token = token + self.projection(
            attend(self.heads, mask, self.query(normed[:, :1]), *self.kv(normed).chunk(2, 2))
        )
        return token + self.mlp(token)


class Embed(nn.Sequential):
    """Tokens of another width: linear layer and norm.

    Args:
        before, after: the widths.
    """

    def __init__(self, before: int, after: int):
        super().__init__(nn.Linear(before, after), nn.LayerNorm(after))


class SemanticTokens(nn.Module):
    """Semantic tokens of a map: learned queries read the pooled map P, and a gate mixes what they read with it.

        s = Attention(query = Linear(LN q), key and value = Linear P), one head
        a, b = softmax(MLP(mean over tokens of s + P));  s = LN(a s + b P)

    Args:
        dim: D.
        window: cells along each axis that are averaged to one of P.
        grid: of the queries; for a P of another number of cells they are resized (bicubic).
    """

    def __init__(self, dim: int, window: int = 7, grid: Grid = (8, 8)):
        super().__init__()
        self.window, self.grid = window, grid
        self.queries = nn.Parameter(nn.init.trunc_normal_(torch.empty(grid[0] * grid[1], dim), std=0.02))
        self.query = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim))
        self.kv = nn.Linear(dim, 2 * dim)
        self.gate = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(inplace=True), nn.Linear(dim, 2 * dim))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, x: Float[Tensor, "B N D"], grid: Grid, mask: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B S D"]:
        """`x` is zero where the mask is False."""
        pooled_map = F.avg_pool2d(as_map(x, grid), self.window)
        pooled, keep = as_tokens(pooled_map), self.pooled_mask(mask, grid)
        if mask is not None:  # the mean of the real cells alone
            share = F.avg_pool2d(mask.to(x.dtype).unflatten(1, (1, *grid)), self.window).flatten(1)
            pooled = pooled / share.clamp(min=1 / self.window**2).unsqueeze(2)
        queries = self.query(self._resized((pooled_map.shape[2], pooled_map.shape[3]))).expand(len(x), -1, -1)
        read = attend(1, keep, queries, *self.kv(pooled).chunk(2, 2))
        total = read + pooled
        if keep is None:
            mean = total.mean(1)
        else:
            mean = total.masked_fill(~keep.unsqueeze(2), 0).sum(1) / keep.sum(1, keepdim=True).clamp(min=1)
        weights = self.gate(mean).unflatten(1, (2, 1, -1)).softmax(1)
        return self.norm(weights[:, 0] * read + weights[:, 1] * pooled)

    def pooled_mask(self, mask: Bool[Tensor, "B N"] | None, grid: Grid) -> Bool[Tensor, "B S"] | None:
        """Which semantic tokens are real: those with a real cell in their window."""
        if mask is None:
            return None
        return F.max_pool2d(mask.float().unflatten(1, (1, *grid)), self.window).flatten(1) > 0

    def _resized(self, grid: Grid) -> Float[Tensor, "S D"]:
        if grid[0] * grid[1] == len(self.queries):
            return self.queries
        map = self.queries.t().unflatten(1, self.grid).unsqueeze(0)
        return F.interpolate(map, size=grid, mode="bicubic", align_corners=False).flatten(2)[0].t()


class Stem(nn.Module):
    """An image at a quarter of its resolution: convolutions 7x7/2, 3x3, 3x3 with batch norms, then 3x3/2 and LN.

    Args:
        channels: of the image.
        hidden: width of the first three convolutions.
        dim: D.
    """

    def __init__(self, channels: int, hidden: int, dim: int):
        super().__init__()
        self.convolutions = nn.Sequential()
        for before, kernel, stride in ((channels, 7, 2), (hidden, 3, 1), (hidden, 3, 1)):
            self.convolutions.append(nn.Conv2d(before, hidden, kernel, stride, kernel // 2, bias=False))
            self.convolutions.append(nn.BatchNorm2d(hidden))
            self.convolutions.append(nn.ReLU(inplace=True))
        self.entry = DownSample(hidden, dim)

    def forward(self, image: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B N D"], Grid]:
        return self.entry(self.convolutions(image.contiguous(memory_format=torch.channels_last)))


class DownSample(nn.Module):
    """Half the resolution: convolution 3x3/2 and LN.

    Args:
        before: width of the map.
        dim: D.
    """

    def __init__(self, before: int, dim: int):
        super().__init__()
        self.convolution = nn.Conv2d(before, dim, 3, 2, 1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, map: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B N D"], Grid]:
        map = self.convolution(map)
        return self.norm(as_tokens(map)), (map.shape[2], map.shape[3])
