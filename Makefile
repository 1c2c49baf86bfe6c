# Every target but .venv and bench is one `kard` line, so a system without make needs only that line.
# Windows: py -m venv .venv; .venv\Scripts\pip install -c constraints.txt -e ".[test]"; .venv\Scripts\kard demo
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help .venv demo test lab all doctor report bench

help:  ## this list
	@echo "make .venv    install the pinned dependencies into .venv, nothing else"
	@echo "make demo     the main path at mini scale, then the main table      (kard demo)"
	@echo "make test     unit tests, a mini run, the notebooks with nbval      (kard test)"
	@echo "make lab      JupyterLab on the notebooks                           (kard lab)"
	@echo "make all      every notebook                                        (kard all)"
	@echo "make doctor   is the installation sound?                            (kard doctor)"
	@echo "make report   the tables from finished runs                         (kard report)"
	@echo "make bench    ratios to other programs, on this machine             (python -m benchmarks)"

.venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $(STAMP)

demo test lab all doctor report: $(STAMP)
	$(BIN)/kard $@

bench: $(STAMP)
	$(BIN)/python -m benchmarks
