"""Which rows may not meet in a batch, and their labels. A stand-alone script has this source."""


def padded(rows):
    """A data set's transform: the labels of a batch, filled up to one length with -1."""
    if "label" in rows:
        width = max(map(len, rows["label"]))
        rows["label"] = [[*row, *[-1] * (width - len(row))] for row in rows["label"]]
    return rows


class Apart:
    """A data set's transform for sentence-transformers' ``NoDuplicatesBatchSampler``: a row gets a
    value more for each document that is right for its anchor, or for which another's is right.

    The sampler keeps rows apart that share a value, but compares texts alone: it would make
    another row's document a negative although that is right for the anchor as well. What is
    right: the positives of all rows with the same anchor, and the texts of the column ``also``. The
    data set's other columns are ``anchor``, ``positive``, ``negative_1`` and so on.
    """

    def __init__(self, data):
        names = data.column_names
        self.columns = [n for n in names if n == "positive" or n.startswith("negative_")]
        anchors = data["anchor"][:]
        shown: dict = {}  # document -> the anchors beside which it is shown
        right: dict = {}  # anchor -> its right documents
        for name in self.columns:
            for anchor, document in zip(anchors, data[name][:], strict=True):
                shown.setdefault(document, set()).add(anchor)
        also = data["also"][:] if "also" in names else [()] * len(anchors)
        own = data["positive"][:] if "positive" in names else anchors
        for anchor, document, others in zip(anchors, own, also, strict=True):
            right.setdefault(anchor, {}).update(dict.fromkeys([document, *others]))
        self.values: dict = {}  # anchor, or document as (text,) -> values
        number = 0
        for anchor, documents in right.items():
            for document in documents if len(documents) > 1 else ():
                if shown.get(document, set()) - {anchor}:
                    number += 1
                    for key in (anchor, (document,)):
                        self.values.setdefault(key, []).append(f"known positive {number}")

    def __call__(self, rows):
        """One row, as a batch of one."""
        keys = [rows["anchor"][0], *((rows[name][0],) for name in self.columns)]
        found = {value: [value] for key in keys for value in self.values.get(key, ())}
        return {name: value for name, value in rows.items() if name != "also"} | found
