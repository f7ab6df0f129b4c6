# What memjail's promise comes to on this kernel, as root and as a user: one line each,
# which TestKernels reads. The control, outside, must say "open".
attack='exec 3<>/proc/self/mem && echo open'
echo "control: $(sh -c "$attack" 2>&1)"
as() {
	if [ "$1" = root ]; then sh -c "$2"; else su user -c "$2"; fi
}
for who in root user; do
	for command in run exec; do
		echo "$who $command: memory $(as $who "memjail $command -- sh -c '$attack'" 2>/tmp/complaint; echo "status $?")"
		as $who "memjail $command -- sh -c 'read name rest </proc/self/status; echo \"\$name \$rest\"; exit 3'" 2>/dev/null
		echo "$who $command: status $?"
		sed "s/^/$who $command complains: /" /tmp/complaint
	done
done
