"""A softmax over the whole corpus, against document vectors that are kept and refreshed.

A batch of 128 shows a query 127 wrong documents; the corpus holds thousands. Encoding them all at
every step is out of reach, but their vectors of a little while ago are not. The positive is taken
from the same kept vectors: a fresh one beside stale negatives would be told apart by its freshness.

The two classes stand on torch, transformers and sentence-transformers alone: a recipe's stand-alone
script carries their source.
"""

import torch
import torch.nn.functional as F
from transformers import TrainerCallback

NONE = -1  # fills up a row of labels


class CorpusSoftmaxLoss(torch.nn.Module):
    """-log( exp(cos(q, d+) / t) / sum over the corpus of exp(cos(q, d) / t) ), and a batch's own.

    A row's labels are the places in the corpus of its positive, then of what else is right for the
    same query and so is no negative, then ``NONE``. The documents' vectors are constants: the
    loss moves the queries; ``in_batch`` is the share of the ordinary loss over the batch, which
    moves the documents, too. Models that truncate are met with truncated documents.

    Args:
        model: the model in training.
        temperature: divides the similarities.
        in_batch: share of the loss over the batch, 0 to 1; at 0 no document is encoded at a step.
        sample: documents a step to compare with, beside the batch's positives; None: all.
    """

    def __init__(self, model, temperature=0.05, in_batch=0.5, sample=None):
        super().__init__()
        self.model, self.temperature = model, temperature
        self.share, self.sample = in_batch, sample
        self.documents = torch.empty(0, 0)  # (corpus, dim), set by KeptDocuments

    def forward(self, sentence_features, labels):
        features = list(sentence_features)
        queries = self._embed(features[0])  # (batch, dim)
        loss = (1 - self.share) * self._over_corpus(queries, labels)
        if self.share:
            loss = loss + self.share * self._over_batch(queries, features[1:])
        return loss

    def _embed(self, features):
        return F.normalize(self.model(features)["sentence_embedding"].float(), dim=-1)

    def _over_corpus(self, queries, labels):
        documents, positives = self.documents, labels[:, 0]
        others = labels[:, 1:]
        row, column = torch.nonzero(others != NONE, as_tuple=True)
        right = others[row, column]
        if self.sample is not None and self.sample < len(documents):
            drawn = torch.randint(len(documents), (self.sample,), device=labels.device)
            kept, places = torch.cat([positives, right, drawn]).unique(return_inverse=True)
            documents, positives = documents[kept], places[: len(positives)]
            right = places[len(positives) : len(positives) + len(right)]
        documents = F.normalize(documents[:, : queries.shape[1]], dim=-1)
        with torch.autocast(queries.device.type, enabled=False):
            logits = queries @ documents.T / self.temperature  # (batch, corpus)
        forbidden = torch.zeros_like(logits, dtype=torch.bool)
        forbidden[row, right] = True
        return F.cross_entropy(logits.masked_fill(forbidden, -torch.inf), positives)

    def _over_batch(self, queries, columns):
        documents = torch.cat([self._embed(features) for features in columns])
        with torch.autocast(queries.device.type, enabled=False):
            logits = queries @ documents.T / self.temperature  # (batch, documents of the batch)
        return F.cross_entropy(logits, torch.arange(len(queries), device=logits.device))


class KeptDocuments(TrainerCallback):
    """Encodes the corpus anew every so many steps, and keeps its vectors with a checkpoint.

    Args:
        loss: whose ``documents`` are kept fresh.
        encode: ``encode()`` gives the corpus' vectors under the model as it is, (corpus, dim).
        every: steps between two refreshments.
    """

    def __init__(self, loss, encode, every):
        self.loss, self.encode, self.every = loss, encode, every

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step:
            self.loss.documents = torch.load(self._file(args, state), weights_only=True)

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step % self.every == 0:
            self.loss.documents = torch.as_tensor(self.encode(), device=args.device)

    def on_save(self, args, state, control, **kwargs):
        torch.save(self.loss.documents, self._file(args, state))

    def _file(self, args, state):
        return f"{args.output_dir}/checkpoint-{state.global_step}/documents.pt"
