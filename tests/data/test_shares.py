"""Shares of a batch: every image in one of them, partners together, and none much larger than another."""

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from vitcli.core.launch import Place
from vitcli.data.shares import share_of


@given(batch=st.integers(1, 200), size=st.integers(1, 20))
def test_shares_cover_a_batch_and_keep_partners_at_their_ends(batch, size):
    shares = [share_of(batch, Place(rank, size)) for rank in range(size)]
    members = [share.members.tolist() for share in shares]
    assert sorted(itertools.chain(*members)) == list(range(batch))
    for share in shares:
        assert share.batch == batch
        assert torch.equal(share.members.flip(0), batch - 1 - share.members)
        assert torch.equal(share.members, share.members.sort().values)
    sizes = [len(each) for each in members]
    assert max(sizes) - min(sizes) <= 2
