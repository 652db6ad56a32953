"""A softmax over the whole corpus, against document vectors that are kept and refreshed.

The positive is taken from the same kept vectors: a fresh one beside stale negatives would be told
apart by its freshness. The classes stand on torch and transformers alone: a recipe's stand-alone
script carries their source.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from sentence_transformers.util import all_gather
from torch.utils.checkpoint import checkpoint
from transformers import TrainerCallback

NONE = -1  # fills up a row of labels
LEAST = -1e30  # a logit that counts for nothing; a block of infinities would have no gradient


class CorpusSoftmaxLoss(torch.nn.Module):
    """-log( exp(cos(q, d+) / t) / sum over the corpus of exp(cos(q, d) / t) ), and a batch's own.

    A row's labels are the places in the corpus of its positive, then of what else is right for the
    same query and so is no negative, then ``NONE``. The documents' vectors are constants: the
    loss moves the queries; ``in_batch_weight`` is the share of the loss over the batch, which
    moves the documents, too: at 0 no document is encoded at a step. Models that truncate are met
    with truncated documents.
    """

    BLOCK = 65_536  # documents whose similarities are held at once; a larger corpus goes in parts

    def __init__(self, model, temperature=0.05, in_batch_weight=0.5, gather_across_devices=False):
        super().__init__()
        self.model, self.temperature = model, temperature
        self.share, self.gather = in_batch_weight, gather_across_devices
        self.documents = torch.empty(0, 0)  # (corpus, dim), set by KeptDocuments

    def forward(self, sentence_features, labels):
        features = list(sentence_features)
        queries = self._embed(features[0])  # (batch, dim)
        loss = (1 - self.share) * self._over_corpus(queries, labels)
        if self.share:
            documents = [self._embed(part) for part in features[1:]]
            loss = loss + self.share * self._over_batch(queries, documents)
        return loss

    def _embed(self, features):
        return F.normalize(self.model(features)["sentence_embedding"].float(), dim=-1)

    def _blocks(self, function, queries):
        """``function(queries, start)`` of each block of the corpus; of several, what they hold for
        the backward pass is computed anew then."""
        starts = range(0, len(self.documents), self.BLOCK)
        if len(starts) == 1:
            return function(queries, 0)[None]
        parts = [checkpoint(function, queries, start, use_reentrant=False) for start in starts]
        return torch.stack(parts)

    def _logits(self, queries, start):
        documents = self.documents[start : start + self.BLOCK, : queries.shape[1]]
        with torch.autocast(queries.device.type, enabled=False):
            return queries @ F.normalize(documents, dim=-1).T / self.temperature  # (batch, block)

    def _over_corpus(self, queries, labels):
        positives, others = labels[:, 0], labels[:, 1:]

        def total(queries, start):  # the log of a block's sum of exp, (batch,)
            logits = self._logits(queries, start)
            width = logits.shape[1]
            here = (others >= start) & (others < start + width)
            forbidden = logits.new_zeros(len(logits), width + 1, dtype=torch.bool)
            forbidden.scatter_(1, torch.where(here, others - start, width), True)
            return logits.masked_fill(forbidden[:, :-1], LEAST).logsumexp(dim=1)

        right = F.normalize(self.documents[positives, : queries.shape[1]], dim=-1)
        right = (queries * right).sum(dim=1) / self.temperature
        return (self._blocks(total, queries).logsumexp(dim=0) - right).mean()

    def _over_batch(self, queries, columns, known=None):
        """Over the batch's documents, those of all processes where several gather them; ``known``,
        (batch,) of bool: which rows there have labels, where not all have."""
        rows, first = torch.arange(len(queries), device=queries.device), 0
        if self.gather:
            first = len(queries) * torch.distributed.get_rank()
            columns = [all_gather(column, with_grad=True) for column in columns]
        documents = torch.cat(columns)
        with torch.autocast(queries.device.type, enabled=False):
            logits = queries @ documents.T / self.temperature  # (batch, documents of the batch)
        if known is None:
            return F.cross_entropy(logits, rows + first)
        shown = all_gather(known).repeat(len(columns))
        logits = logits.masked_fill(~shown, LEAST)
        losses = F.cross_entropy(logits, rows + first, reduction="none")
        return losses[known].sum() / known.sum().clamp(min=1)


class CorpusDistillLoss(CorpusSoftmaxLoss):
    """KL( softmax of the teacher's cosines / t' || softmax of the student's / t ), over the corpus.

    A row's labels are the place of its text among the teacher's queries, then what
    ``CorpusSoftmaxLoss`` wants; of a text without labels, nothing but ``NONE``. Such a text learns
    from the teacher alone. Every row weighs the same. ``queries``, (texts, teacher's dim), and
    ``documents``, (corpus, teacher's dim), are the teacher's unit vectors of anchors and corpus;
    ``teacher_share``, 0 to 1, is the teacher's share of the loss, and the rest what the labels say.
    """

    taught_queries: torch.Tensor
    taught_documents: torch.Tensor

    def __init__(
        self,
        model,
        queries,
        documents,
        temperature=0.05,
        teacher_temperature=0.05,
        teacher_share=0.5,
        in_batch_weight=0.5,
        gather_across_devices=False,
    ):
        super().__init__(model, temperature, in_batch_weight, gather_across_devices)
        self.register_buffer("taught_queries", queries.float(), persistent=False)
        self.register_buffer("taught_documents", documents.float(), persistent=False)
        self.teacher_temperature, self.teacher_share = teacher_temperature, teacher_share

    def forward(self, sentence_features, labels):
        features = list(sentence_features)
        queries = self._embed(features[0])  # (batch, dim)
        asked, labels = labels[:, 0], labels[:, 1:]
        known = labels[:, 0] != NONE
        weight = known.float().mean()
        loss = self.teacher_share * self._from_teacher(queries, asked)
        if known.any() and self.teacher_share < 1:
            labelled = self._over_corpus(queries[known], labels[known])
            loss = loss + (1 - self.teacher_share) * weight * labelled
        loss = (1 - self.share) * loss
        if self.gather and self.share:  # every process takes part, whatever it knows
            documents = [self._embed(part) for part in features[1:]]
            loss = loss + self.share * weight * self._over_batch(queries, documents, known)
        elif known.any() and self.share:
            documents = [self._embed_rows(part, known) for part in features[1:]]
            loss = loss + self.share * weight * self._over_batch(queries[known], documents)
        return loss

    def _embed_rows(self, features, chosen):
        if "offsets" in features:  # static vectors: the tokens of all texts in one row
            return self._embed(features)[chosen]
        rows = {k: v[chosen] if torch.is_tensor(v) else v for k, v in features.items()}
        return self._embed(rows)

    def _from_teacher(self, queries, asked):
        with torch.no_grad():
            parts = range(0, len(self.documents), self.BLOCK)
            totals = [self._taught(asked, start).logsumexp(dim=1) for start in parts]
            whole = torch.stack(totals).logsumexp(dim=0)[:, None]  # (batch, 1)

        def one(queries, start):  # log of the sum of exp; sum of p (log p - logit): (2, batch)
            logits, wanted = self._logits(queries, start), self._taught(asked, start) - whole
            apart = (wanted.exp() * (wanted - logits)).sum(dim=1)
            return torch.stack([logits.logsumexp(dim=1), apart])

        found = self._blocks(one, queries)  # (blocks, 2, batch)
        return (found[:, 0].logsumexp(dim=0) + found[:, 1].sum(dim=0)).mean()

    def _taught(self, asked, start):
        documents = self.taught_documents[start : start + self.BLOCK]
        with torch.autocast(documents.device.type, enabled=False):
            return self.taught_queries[asked] @ documents.T / self.teacher_temperature


class KeptDocuments(TrainerCallback):
    """Encodes the corpus anew every so many steps, and keeps its vectors with a checkpoint.

    They are written before the checkpoint is, so that no checkpoint is ever without them; and so
    this callback comes after those that may ask for one. ``encode()`` gives the corpus' vectors
    under the model as it is, (corpus, dim); ``loss.documents`` is where they go.
    """

    def __init__(self, loss, encode, every):
        self.loss, self.encode, self.every = loss, encode, every

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step:
            kept = self.file(args.output_dir, state.global_step)
            self.loss.documents = torch.load(kept, args.device, weights_only=True)

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step % self.every == 0:
            self.loss.documents = torch.as_tensor(self.encode(), device=args.device)

    def on_step_end(self, args, state, control, **kwargs):
        if control.should_save and state.is_world_process_zero:
            Path(args.output_dir).mkdir(parents=True, exist_ok=True)
            torch.save(self.loss.documents, self.file(args.output_dir, state.global_step))

    def on_save(self, args, state, control, **kwargs):
        now = self.file(args.output_dir, state.global_step)
        for kept in {*Path(args.output_dir).glob("documents-*.pt")} - {now}:
            kept.unlink(missing_ok=True)

    @staticmethod
    def file(folder, step):
        return Path(folder) / f"documents-{step}.pt"
