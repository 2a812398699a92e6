"""The weights of published base networks: where they come from, under which licence, and their checksums."""

from __future__ import annotations

from meta_spliceai.resources.registry import Resource, ResourceFile, register

_OPENSPLICEAI_COMMIT = "394109aad9d7a60c5139d3262b1e8ced2bd81209"
_PANGOLIN_COMMIT = "5cf94b8db938c658391b4305cd7ce33297d44ff7"

_OPENSPLICEAI_SHA256 = {
    10: "7b0d6af6239e27392226bbada310ee9e2ce0ced149fb6fdff8996c12cba3cc85",
    11: "38fe4469eff09ffe5caa291bc224248c81ed68acca0b729afb87450909a8130e",
    12: "49f38e3fd0e87b81ce22d986d1168eb9b2c55668bfd6aaa064da1082ee668667",
    13: "bae2756b452f31d45b74604816561da79284d791be37f467491a68342c819b20",
    14: "cfe2741311ed02dab3042492a5be14029b18d63be693751e9534315a9e4c6271",
}

_PANGOLIN_SHA256 = {
    (1, 0): "f0478fab173b75f7f7e9fe96688bad6c50fa4a46d70557f423b110caaf565501",
    (1, 2): "559c05de3e1ce65c2515ca3e92ef85edb0ec2e47686ca58060e25891ce06eb3a",
    (1, 4): "c50b12e0c0af776d5674ca5e346493f8265783494d4df383364de9c1136657f6",
    (1, 6): "2aae563fa18a8a9b6699c6c96e0d32b8ec7543f8f805fb3bc9de77302cc9f66e",
    (2, 0): "c4c6bb4880fa6fb28b14182ae3ea0600edb07056158f55325b5e6e6e48fc9f26",
    (2, 2): "48758ba8b95eee9aa9feea52672ef06ca1b34111299c27f8a710f734d8b9aae5",
    (2, 4): "e03303bed4fd6f135ec0f6c1b192cce954ea42d0646f44d17b4a6fbb2b1f610e",
    (2, 6): "7d3c0b1b2a60067b940dec315567874fbc8bcd322f1b7c76bf969f51f0f53f7f",
    (3, 0): "ec685a6e7105a4486c1f89a005458a13deb3fe7171f13d434f4877e386d10676",
    (3, 2): "7cb576c2b24db4fdd6970c4ca4fb7c20ae1b1d8ae80645ebbe689848b5743129",
    (3, 4): "9476d2e25520d7ff15bece0cd5d3b657e3b1dd3cc5fcab1d9c3b62bea7a0c5b6",
    (3, 6): "756e7721a382cace24e9bfea5b543af5623f2487d9a3efe7385e9c76367005fd",
}
"""(replicate, tissue index): SHA-256."""

OPENSPLICEAI_MANE_10000NT = register(
    Resource(
        name="openspliceai-mane-10000nt",
        title="OpenSpliceAI, five networks trained on MANE transcripts, 10,000 nt of context",
        source=f"https://github.com/Kuanhao-Chao/OpenSpliceAI @ {_OPENSPLICEAI_COMMIT}",
        licence="GPL-3.0",
        citation="Chao et al. 2025, 10.1101/2025.03.20.644351",
        files=tuple(
            ResourceFile(
                path=f"openspliceai-mane-10000nt/model_10000nt_rs{seed}.pt",
                sha256=sha256,
                size=2_878_124,
                url=f"https://raw.githubusercontent.com/Kuanhao-Chao/OpenSpliceAI/{_OPENSPLICEAI_COMMIT}"
                f"/models/openspliceai-mane/10000nt/model_10000nt_rs{seed}.pt",
            )
            for seed, sha256 in _OPENSPLICEAI_SHA256.items()
        ),
    )
)

PANGOLIN = register(
    Resource(
        name="pangolin",
        title="Pangolin, P(splice) networks of four tissues, three replicates each",
        source=f"https://github.com/tkzeng/Pangolin @ {_PANGOLIN_COMMIT}",
        licence="GPL-3.0",
        citation="Zeng and Li 2022, 10.1186/s13059-022-02664-4",
        files=tuple(
            ResourceFile(
                path=f"pangolin/final.{replicate}.{tissue}.3.v2",
                sha256=sha256,
                size=2_877_321,
                url=f"https://raw.githubusercontent.com/tkzeng/Pangolin/{_PANGOLIN_COMMIT}"
                f"/pangolin/models/final.{replicate}.{tissue}.3.v2",
            )
            for (replicate, tissue), sha256 in _PANGOLIN_SHA256.items()
        ),
    )
)
