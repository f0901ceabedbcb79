# Installation: programs, toolbox, job files, completion, systemd units.

SHARE := $(DESTDIR)$(PREFIX)/share/drover
UNITS := drover-dispatcher.service drover-autoscale.service

.PHONY: install uninstall servers toolchains lint demo demo-cluster clean
install: all ## install under PREFIX (default /usr/local), staged by DESTDIR
	install -d $(DESTDIR)$(PREFIX)/bin $(SHARE) $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -m 0755 $(addprefix $(BIN)/,$(PROGRAMS) drover-sandbox) $(DESTDIR)$(PREFIX)/bin/
	cp -R toolbox nomad-jobs $(SHARE)/
	install -m 0644 tools/packaging/drover.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/drover
	for s in $(UNITS); do sed 's|@PREFIX@|$(PREFIX)|g' tools/packaging/$$s.in > $(DESTDIR)$(PREFIX)/lib/systemd/system/$$s || exit 1; done

uninstall: ## remove what install put there
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(PROGRAMS) drover-sandbox) $(DESTDIR)$(PREFIX)/share/bash-completion/completions/drover $(addprefix $(DESTDIR)$(PREFIX)/lib/systemd/system/,$(UNITS))
	rm -rf $(SHARE)

servers: ## build Nomad, Consul, MinIO for tests and demo-cluster, once per machine
	@tools/servers/build.sh

toolchains: ## install the tools of every vertical, once per machine
	@for v in toolbox/verticals/*/install.sh; do $$v || exit 1; done

lint: all ## layers, lengths, contracts, banned calls, drift of docs
	@DROVER_BIN=$(abspath $(BIN)) tools/lint/run.sh

demo: ## two minutes, embedded: install what is missing, scan a sample project, show findings
	@tools/demo.sh

demo-cluster: ## the same on real Nomad, Consul and MinIO
	@tools/demo-cluster.sh

clean: ## remove the build folder
	rm -rf $(BUILD)
