# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest

import weir.paillier


@pytest.mark.parametrize("name", weir.paillier.__all__)
def test_every_exported_name_exists(name: str) -> None:
    assert getattr(weir.paillier, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'private_key'"):
        weir.paillier.private_key  # noqa: B018


def test_importing_the_package_does_not_import_phe() -> None:
    code = "import sys, weir.paillier as p; a = 'phe' in sys.modules; p.to_phe_encrypted; b = 'phe' in sys.modules"
    code += "; print(a, b)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
