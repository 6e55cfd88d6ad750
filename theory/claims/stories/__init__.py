"""The claims, one module a story: each exports them as ``CLAIMS``, and a new module is found by itself."""
