"""Which room may import what, proved in fresh processes."""

import ast
import subprocess
import sys

# Imported by another module once it sees a GPU; Triton comes with torch's builds for them.
KERNELS = "kernels"


def loaded_modules(statement: str) -> set[str]:
    """Top-level and dotted names in sys.modules after ``statement`` in a fresh process."""
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def functional_modules(repo) -> list[str]:
    package = repo / "projects" / "libra_umop" / "functional"
    paths = sorted(p for p in package.rglob("[!_]*.py") if p.stem != KERNELS)
    return [".".join(p.relative_to(repo / "projects").with_suffix("").parts) for p in paths]


def test_functional_needs_nothing_but_torch(repo):
    names = functional_modules(repo)
    assert len(names) >= 6
    modules = loaded_modules(f"import {', '.join(names)}")
    foreign = {"detectron2", "fvcore", "yacs", "cv2", "torchvision", "pycocotools"}
    foreign.add("triton.language")
    assert not foreign & modules
    assert "libra_umop.config.keys" not in modules


def test_functional_imports_only_torch_and_the_standard_library(repo):
    allowed = {"torch", *sys.stdlib_module_names}
    for path in (repo / "projects" / "libra_umop" / "functional").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            extra = {"triton"} if path.stem == KERNELS else set()
            assert {n.split(".")[0] for n in names} <= allowed | extra, path.name


def test_package_itself_imports_nothing():
    modules = loaded_modules("import libra_umop; assert libra_umop.__version__")
    assert "torch" not in modules


def test_importing_the_config_registers_every_component():
    code = """
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, PROPOSAL_GENERATOR_REGISTRY
from detectron2.modeling import ROI_HEADS_REGISTRY
import libra_umop.config.keys
assert "build_bfp_backbone" in BACKBONE_REGISTRY
assert "build_fpn_backbone" in BACKBONE_REGISTRY and "build_timm_backbone" in BACKBONE_REGISTRY
assert "LibraRPN" in PROPOSAL_GENERATOR_REGISTRY
for name in ("LibraROIHeads", "LibraCascadeROIHeads", "OHEMROIHeads"):
    assert name in ROI_HEADS_REGISTRY, name
for name in ("LibraRetinaNet", "UMOPRetinaNet", "ATSS", "UMOPATSS", "FCOS", "UMOPFCOS"):
    assert name in META_ARCH_REGISTRY, name
"""
    subprocess.run([sys.executable, "-c", code], check=True)
