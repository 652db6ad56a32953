"""A softmax over the whole corpus, against document vectors that are kept and refreshed.

The positive is taken from the same kept vectors: a fresh one beside stale negatives would be told
apart by its freshness. The classes stand on torch and transformers alone: a recipe's stand-alone
script carries their source.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint
from transformers import TrainerCallback

NONE = -1  # fills up a row of labels
HELD = 2**24  # similarities to the corpus that are held at once


class CorpusSoftmaxLoss(torch.nn.Module):
    """-log( exp(cos(q, d+) / t) / sum over the corpus of exp(cos(q, d) / t) ), and a batch's own.

    A row's labels are the places in the corpus of its positive, then of what else is right for the
    same query and so is no negative, then ``NONE``. The documents' vectors are constants: the
    loss moves the queries; ``in_batch_weight`` is the share of the loss over the batch, which
    moves the documents, too: at 0 no document is encoded at a step. Models that truncate are met
    with truncated documents. Of a large corpus, a few queries are compared at a time, and once more
    in the backward pass: memory grows with the corpus, and not with the batch.
    """

    def __init__(self, model, temperature=0.05, in_batch_weight=0.5):
        super().__init__()
        self.model, self.temperature = model, temperature
        self.share = in_batch_weight
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

    def _over_corpus(self, queries, labels):
        return self._by_rows(self._softmax_loss, queries, labels)

    def _by_rows(self, loss, queries, others):
        documents = F.normalize(self.documents[:, : queries.shape[1]], dim=-1)
        rows = max(1, HELD // len(documents))
        if rows >= len(queries):
            return loss(documents, queries, others)
        parts = zip(queries.split(rows), others.split(rows), strict=True)
        again = [checkpoint(loss, documents, *p, use_reentrant=False) * len(p[0]) for p in parts]
        return torch.stack(again).sum() / len(queries)

    def _softmax_loss(self, documents, queries, labels):
        positives, others = labels[:, 0], labels[:, 1:]
        row, column = torch.nonzero(others != NONE, as_tuple=True)
        with torch.autocast(queries.device.type, enabled=False):
            logits = queries @ documents.T / self.temperature  # (batch, corpus)
        forbidden = torch.zeros_like(logits, dtype=torch.bool)
        forbidden[row, others[row, column]] = True
        return F.cross_entropy(logits.masked_fill(forbidden, -torch.inf), positives)

    def _over_batch(self, queries, columns):
        documents = torch.cat(columns)
        with torch.autocast(queries.device.type, enabled=False):
            logits = queries @ documents.T / self.temperature  # (batch, documents of the batch)
        return F.cross_entropy(logits, torch.arange(len(queries), device=logits.device))


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
    ):
        super().__init__(model, temperature, in_batch_weight)
        self.register_buffer("taught_queries", queries.float(), persistent=False)
        self.register_buffer("taught_documents", documents.float(), persistent=False)
        self.teacher_temperature, self.teacher_share = teacher_temperature, teacher_share

    def forward(self, sentence_features, labels):
        features = list(sentence_features)
        queries = self._embed(features[0])  # (batch, dim)
        asked, labels = labels[:, 0], labels[:, 1:]
        known = labels[:, 0] != NONE
        weight = known.float().mean()
        loss = self.teacher_share * self._by_rows(self._from_teacher, queries, asked)
        if known.any() and self.teacher_share < 1:
            labelled = self._over_corpus(queries[known], labels[known])
            loss = loss + (1 - self.teacher_share) * weight * labelled
        loss = (1 - self.share) * loss
        if known.any() and self.share:
            documents = [self._embed_rows(part, known) for part in features[1:]]
            loss = loss + self.share * weight * self._over_batch(queries[known], documents)
        return loss

    def _embed_rows(self, features, chosen):
        if "offsets" in features:  # static vectors: the tokens of all texts in one row
            return self._embed(features)[chosen]
        rows = {k: v[chosen] if torch.is_tensor(v) else v for k, v in features.items()}
        return self._embed(rows)

    def _from_teacher(self, documents, queries, asked):
        with torch.autocast(queries.device.type, enabled=False):
            taught = self.taught_queries[asked] @ self.taught_documents.T  # (batch, corpus)
            wanted = torch.softmax(taught / self.teacher_temperature, dim=-1)
            given = torch.log_softmax(queries @ documents.T / self.temperature, dim=-1)
        return F.kl_div(given, wanted, reduction="batchmean")


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
            self.loss.documents = torch.load(kept, weights_only=True)

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step % self.every == 0:
            self.loss.documents = torch.as_tensor(self.encode(), device=args.device)

    def on_step_end(self, args, state, control, **kwargs):
        if control.should_save:
            Path(args.output_dir).mkdir(parents=True, exist_ok=True)
            torch.save(self.loss.documents, self.file(args.output_dir, state.global_step))

    def on_save(self, args, state, control, **kwargs):
        now = self.file(args.output_dir, state.global_step)
        for kept in {*Path(args.output_dir).glob("documents-*.pt")} - {now}:
            kept.unlink(missing_ok=True)

    @staticmethod
    def file(folder, step):
        return Path(folder) / f"documents-{step}.pt"
