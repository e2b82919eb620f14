# Every target works from nothing: it makes .venv and installs what it needs first.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# An environment is installed anew when pyproject.toml changes.
STAMP := $(VENV)/.installed-$(shell cksum < pyproject.toml | cut -d ' ' -f 1)
# every program in benchmarks/, by name
BENCHMARKS := $(filter-out harness __init__,$(basename $(notdir $(wildcard benchmarks/*.py))))
FETCH := $(RUN) -m physml.datasets mnist
comma := ,
# Threads that spin while they wait make everything ten times slower on a busy machine.
export OMP_WAIT_POLICY ?= passive

.PHONY: help book notebooks slides course site pdf test bench lint words links serve clean distclean

help: ## say what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

book: $(STAMP)-book ## execute the chapters and build the book
	@$(FETCH)
	@$(RUN) tools/build_book.py

notebooks: $(STAMP)-book ## write each chapter as a notebook to run
	@$(FETCH)
	@$(RUN) tools/build_book.py --notebooks

pdf: $(STAMP)-book ## the whole book as one PDF, where LaTeX is installed
	@$(FETCH)
	@$(RUN) tools/build_book.py --pdf

slides: $(STAMP)-book ## make a deck of slides of each chapter, to show without a network
	@$(FETCH)
	@$(RUN) tools/build_book.py
	@$(RUN) tools/slides.py

course: $(STAMP)-book ## write students' notebooks with stubs, and solutions, and run both
	@$(FETCH)
	@$(RUN) tools/build_book.py
	@$(RUN) tools/course.py

site: $(STAMP)-book ## all that is published, and one archive of it, in _build/site
	@$(FETCH)
	@$(RUN) tools/publish.py

test: $(STAMP)-book-test ## run all tests: the library, the book, each notebook a second time
	@$(FETCH)
	@$(RUN) -m pytest

bench: $(STAMP)-data-bench ## time the library beside other codes
	@$(FETCH)
	@for name in $(BENCHMARKS); do $(RUN) -m benchmarks.$$name || exit 1; done

lint: words ## check the style of the code, and the spelling
	@$(RUN) -m ruff check .

words: $(STAMP)-book-test ## check the spelling
	@$(RUN) -m codespell_lib .

links: ## check the links of the built book, and those that lead out of it
	@$(PYTHON) tools/check_links.py

serve: ## show the built book at http://localhost:8000
	@test -f _build/html/index.html || { echo "There is no book yet: run 'make book' first."; exit 1; }
	@echo "The book is at http://localhost:8000 (stop with Ctrl-C)."
	@$(PYTHON) -m http.server 8000 --bind 127.0.0.1 --directory _build/html

clean: ## remove what was built, and keep the installed environments
	@for part in _build/* _build/.[!.]*; do \
	  case "$$part" in _build/colab) ;; *) rm -rf "$$part" ;; esac; done
	@rm -rf .pytest_cache .ruff_cache
	@echo "Removed what was built."

distclean: clean ## remove the installed environments too
	@rm -rf _build $(VENV) *.egg-info
	@echo "Removed the environments as well."

# A target name ends with the extras to install: .installed-<hash>-book-test has .[book,test].
$(STAMP)-%: | $(RUN)
	@echo "Installing physml and its extra packages ($*) into $(VENV); the first time takes minutes ..."
	@$(RUN) -m pip install --disable-pip-version-check -e ".[$(subst -,$(comma),$*)]"
	@touch $@

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@echo "Making the environment $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
