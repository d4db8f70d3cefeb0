"""Graphs of OpenVINO, checked before OpenVINO reads them: these tests need no OpenVINO."""

import pytest

from bitleak.core.errors import ModelError
from bitleak.runtimes.openvino_files import read_ir

ENTITIES = (
    '<!DOCTYPE net [<!ENTITY a "aaaaaaaa">]><net><layers><layer version="opset1"/></layers></net>'
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp037"])
def test_declared_entities_are_refused_in_every_encoding(tmp_path, encoding):
    path = tmp_path / "net.xml"
    declaration = f"<?xml version='1.0' encoding='{encoding}'?>"
    if encoding == "cp037":
        # Only the declaration is ASCII; a search for bytes would not see the rest.
        path.write_bytes(declaration.encode() + ENTITIES.encode(encoding))
    else:
        path.write_bytes((declaration + ENTITIES).encode(encoding))
    with pytest.raises(ModelError, match=r"declares entities|not an OpenVINO file"):
        read_ir(path)


def test_a_graph_in_another_encoding_is_read(tmp_path):
    graph = "<?xml version='1.0' encoding='utf-16'?><net><layers><layer type='Result' version='opset1'/></layers></net>"
    (tmp_path / "net.xml").write_bytes(graph.encode("utf-16"))
    assert read_ir(tmp_path / "net.xml").constants == b""
