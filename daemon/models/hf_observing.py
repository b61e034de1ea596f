"""Looking inside a transformers model: attention maps, hidden and recurrent states, steering. See `base.Observer`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from daemon.errors import Unobservable
from daemon.models import anatomy, hf_batches, hf_hooks, hf_sampling, hf_scoring
from daemon.models.base import Attention, Checkpoint, Conversation, Layout, Passage
from daemon.models.hf_chat import Chat

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAP = 1 << 22  # places of attention maps (tokens squared) that go through together: bounds memory by 4 M x heads


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """An encoded passage: the prompt's tokens and the answer's, without its end of turn."""

    ids: list[int]
    prompt: int  # how many of them are the prompt's
    message: tuple[int, int]  # where the last user message stands
    span: tuple[int, int] | None

    @property
    def decisions(self) -> slice:
        """The places that predict the answer and its end of turn."""
        return slice(self.prompt - 1, len(self.ids))

    @property
    def answer(self) -> slice:
        """The answer's own places; without an answer the end of the user's text, which no generic header follows."""
        if len(self.ids) > self.prompt:
            return slice(self.prompt, len(self.ids))
        end = self.message[1]
        return slice(end - 1, end)


class Observing:
    """The instruments on one model. What they see is the model as it is at the call, adapter and steering included."""

    def __init__(self, net: nn.Module, chat: Chat, *, batch: int, tokens: int) -> None:
        self._net, self._chat = net, chat
        self._batch, self._tokens = batch, tokens
        self._device = next(net.parameters()).device
        kinds = anatomy.kinds(net)
        config: Any = net.config
        self.layout = Layout(
            layers=len(kinds),
            attention=tuple(block for block, kind in enumerate(kinds, start=1) if kind != "linear_attention"),
            gdn=tuple(block for block, kind in enumerate(kinds, start=1) if kind == "linear_attention"),
            heads=config.num_attention_heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
            gdn_heads=getattr(config, "linear_num_value_heads", 0) if "linear_attention" in kinds else 0,
            hidden=config.hidden_size,
        )

    def moved(self, device: torch.device) -> None:
        """The model is on another device by now."""
        self._device = device

    @torch.inference_mode()
    def attention(self, passages: Sequence[Passage], checkpoint: Checkpoint) -> list[Attention]:
        """Maps are cut down to the decision tokens as each layer returns them: only one whole map exists at a time."""
        if not self.layout.attention:
            raise Unobservable(f'architecture "{self._kind}" has no full-attention layers, so no attention maps')
        texts = [self._encode(passage) for passage in passages]
        mixers = anatomy.mixers(self._net)
        modules = [mixers[block - 1] for block in self.layout.attention]
        found: list[list[NDArray[np.float32]]] = [[] for _ in texts]
        lengths = [len(text.ids) ** 2 for text in texts]
        for rows in self._batches(lengths, _MAP, checkpoint):

            def react(_: int, output: Any, rows: list[int] = rows) -> None:
                for place, row in enumerate(rows):
                    text = texts[row]
                    found[row].append(_numpy(output[1][place, :, text.decisions, : len(text.ids)]))

            with anatomy.eager_attention(self._net), hf_hooks.hooked(modules, react):
                hf_scoring.hidden(self._net, [texts[row].ids for row in rows], self._chat.pad, self._device)
        return [
            Attention(weights=np.stack(maps), span=text.span, prompt=text.prompt)
            for text, maps in zip(texts, found, strict=True)
        ]

    def hidden(self, passages: Sequence[Passage], layers: Sequence[int], checkpoint: Checkpoint) -> NDArray[np.float32]:
        """By hooks, since transformers' own `hidden_states` norms the last one."""
        texts = [self._encode(passage) for passage in passages]
        return self._averages(texts, self._blocks(layers), [text.answer for text in texts], checkpoint)

    def mixer_outputs(self, passages: Sequence[Passage], checkpoint: Checkpoint) -> NDArray[np.float32]:
        """Before it is added to the stream."""
        texts = [self._encode(passage) for passage in passages]
        return self._averages(texts, anatomy.mixers(self._net), [text.decisions for text in texts], checkpoint)

    @torch.inference_mode()
    def recurrent(self, prompts: Sequence[Conversation], checkpoint: Checkpoint) -> NDArray[np.float32]:
        """Left-padded, so that every row's state is read after its own last token."""
        if not self.layout.gdn:
            raise Unobservable(
                f'architecture "{self._kind}" has no GDN layers, so no recurrent state to look at; models that have '
                f"them: {', '.join(anatomy.with_gdn())}"
            )
        texts = []
        for prompt in prompts:
            ids, (_, end) = self._chat.located(prompt)
            texts.append(ids[:end])
        config: Any = self._net.config
        sizes = (self.layout.gdn_heads, config.linear_key_head_dim, config.linear_value_head_dim)
        found = np.zeros((len(texts), len(self.layout.gdn), *sizes), np.float32)
        for rows in self._batches([len(ids) for ids in texts], self._tokens, checkpoint):
            tokens, mask = hf_sampling.pad_left([texts[row] for row in rows], self._chat.pad, self._device)
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            cache = anatomy.new_cache(self._net)
            anatomy.backbone(self._net)(
                input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            )
            for place, block in enumerate(self.layout.gdn):
                found[rows, place] = _numpy(anatomy.recurrent_state(cache, block - 1))
        return found

    def steered(self, vectors: Mapping[int, NDArray[np.float32]], strength: float) -> AbstractContextManager[None]:
        """Checked before anything is hooked."""
        for block, vector in vectors.items():
            if np.shape(vector) != (self.layout.hidden,):
                raise ValueError(f"layer {block}: a vector of shape {np.shape(vector)}, not ({self.layout.hidden},)")
        moves = [torch.as_tensor(vector, dtype=torch.float32) * strength for vector in vectors.values()]
        return hf_hooks.adding(self._blocks(tuple(vectors)), moves)

    @torch.inference_mode()
    def _averages(
        self, texts: Sequence[_Text], modules: Sequence[nn.Module], places: Sequence[slice], checkpoint: Checkpoint
    ) -> NDArray[np.float32]:
        """(texts, modules, hidden): what the modules put out, averaged over each text's places."""
        found = np.zeros((len(texts), len(modules), self.layout.hidden), np.float32)
        for rows in self._batches([len(text.ids) for text in texts], self._tokens, checkpoint):
            shares = torch.zeros(len(rows), max(len(texts[row].ids) for row in rows))
            for place, row in enumerate(rows):
                at = places[row]
                shares[place, at] = 1 / (at.stop - at.start)
            with hf_hooks.averaging(modules, shares.to(self._device)) as averages:
                hf_scoring.hidden(self._net, [texts[row].ids for row in rows], self._chat.pad, self._device)
            found[rows] = _numpy(torch.stack(averages, dim=1))
        return found

    def _batches(self, lengths: Sequence[int], bound: int, checkpoint: Checkpoint) -> Iterator[list[int]]:
        done = 0
        for rows in hf_batches.by_length(lengths, self._batch, bound):
            checkpoint(done, len(lengths))
            yield rows
            done += len(rows)

    def _encode(self, passage: Passage) -> _Text:
        _, target = self._chat.pair(passage.prompt, passage.answer)
        prompt, message = self._chat.located(passage.prompt, room=len(target))
        span = self._chat.located(passage.prompt, passage.span, room=len(target))[1] if passage.span else None
        return _Text(ids=[*prompt, *target[:-1]], prompt=len(prompt), message=message, span=span)

    def _blocks(self, layers: Sequence[int]) -> list[nn.Module]:
        blocks = anatomy.layers(self._net)
        for layer in layers:
            if not 1 <= layer <= len(blocks):
                raise ValueError(f"layer {layer}: this model's are 1 to {len(blocks)}")
        return [blocks[layer - 1] for layer in layers]

    @property
    def _kind(self) -> str:
        config: Any = self._net.config
        return str(config.model_type)


def _numpy(values: Tensor) -> NDArray[np.float32]:
    return values.float().cpu().numpy()
