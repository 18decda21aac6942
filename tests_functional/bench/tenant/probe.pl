#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# What a program of a hostile image tries. Called with the name of the program that it is in the place of; it writes
# a line for each thing tried to /var/lib/probes/NAME: group, probe, 1 where it reached, what it saw. Where
# /etc/probes says "KIND:NAME" it then does that one fatal thing, which ends or spoils the run.
#
# Nothing that it reaches is destroyed: a file is opened for writing, not written; the clock is set to what it says.
use strict;
use warnings;
no warnings 'portable';    # hexadecimal numbers of 64 bits
use Errno qw(EPERM EACCES ENOSYS EROFS);
use Fcntl;
use POSIX ();
use Socket;

my $caller = shift // die "of which program?\n";
my $MARK   = join '-', 'planted', 'by', 'the', 'test';    # in one piece it would be found in this file
my ($SERVER) = -e '/etc/probes.server' ? slurp('/etc/probes.server') =~ /(\S+)/ : ('127.0.0.1');
my $RECORDS = '/var/lib/probes';
my @PROBES;
my $NAMES = 8;                                              # how many names a detail lists

# --- words -----------------------------------------------------------------------------------------------------------
sub probe { my ($group, $name, $code) = @_; push @PROBES, [$group, $name, $code]; return }

sub slurp {
    my ($path, $most) = @_;
    sysopen my $file, $path, O_RDONLY | O_NONBLOCK | O_NOCTTY or return '';
    sysread $file, my $text, $most // 1 << 16;
    return $text // '';
}

# A system call, by its number. Reached unless it is refused as such: what it was given is mostly nonsense.
sub call {
    my @words = @_;
    local $! = 0;
    my $got = syscall shift(@words), @words;
    return ($got != -1 || !grep({ $! == $_ } EPERM, EACCES, ENOSYS) ? 1 : 0, $got == -1 ? "$!" : "returned $got");
}

sub done {    # a system call that must have worked
    my @words = @_;
    my $got   = syscall shift(@words), @words;
    return ($got == -1 ? 0 : 1, $got == -1 ? "$!" : "returned $got");
}

# Literals are read-only, which perl does not hand over. What the kernel fills needs "syscall" itself.
sub system_call { my ($number, @words) = @_; return syscall $number, @words }

sub several { my @found = @_; return (scalar @found ? 1 : 0, some(@found)) }
sub some { my @x = @_; return @x . (@x ? ': ' : '') . join(' ', @x > $NAMES ? (@x[0 .. $NAMES - 1], '...') : @x) }
sub opened { my ($path, $how) = @_; return sysopen(my $file, $path, $how | O_NONBLOCK | O_NOCTTY) ? 1 : 0 }
sub writable { my ($path) = @_; return ((stat $path)[2] // 0) & 0222 && opened($path, O_WRONLY) }
sub names { my ($path) = @_; opendir my $folder, $path or return (); return grep { !/^\.\.?$/ } readdir $folder }
sub processes { return grep {/^\d+$/} names('/proc') }

sub below {    # the paths of all files, and of nodes
    my ($path, $skipped, $depth) = @_;
    return () if $depth < 0;
    my @found;
    for my $name (sort(names($path))) {
        my $here = "$path/$name";
        next if $here =~ $skipped || -l $here;
        push @found, -d _ ? below($here, $skipped, $depth - 1) : $here;
    }
    return @found;
}

# Processes that are not of the image: what it started goes by other names.
sub strangers {
    return grep {
        my $comm = slurp("/proc/$_/comm");
        my $line = slurp("/proc/$_/cmdline");
        $comm =~ /^(sshd|kthreadd|init|bareon-prov|udevd|systemd-udevd)/ || $line =~ m{/bin/bareon-|/sbin/init}
    } processes();
}

sub number { my ($x) = @_; return ($x >> 8 & 0xfff) . ':' . (($x & 0xff) | ($x >> 12 & 0xfff00)) }
my %HARMLESS = map { $_ => 1 } '1:3', '1:5', '1:7', '1:8', '1:9', '5:0', '5:2';

sub device {    # what a node leads to, if it can be opened, and that is more than null, zero, random and terminals
    my ($path) = @_;
    return '' if $path =~ /watchdog|snapshot/;    # opened, they begin what they are for
    my @status = stat $path or return '';
    my $number = number($status[6]);
    my $block  = POSIX::S_ISBLK($status[2]);
    return '' unless $block || POSIX::S_ISCHR($status[2]) && !$HARMLESS{$number} && $number !~ /^136:/;
    sysopen my $file, $path, O_RDONLY | O_NONBLOCK | O_NOCTTY or return '';
    return "$path($number)" unless $block && sysseek $file, 1 << 20, 0;
    sysread $file, my $text, 4096;
    return "$path($number)" unless ($text // '') =~ /\Q$MARK\E/;
    sysopen my $written, $path, O_WRONLY or return "$path($number,read)";
    sysseek $written, 2 << 20, 0;
    return syswrite($written, "$caller was here\n") ? "$path($number,READ,WRITTEN)" : "$path($number,READ)";
}

sub marked { my @paths = @_; return grep { -f $_ && slurp($_, 1 << 20) =~ /\Q$MARK\E/ } @paths }

# --- secrets ---------------------------------------------------------------------------------------------------------
my @SECRETS = (
    qw(/etc/planted /root/.ssh/planted /run/planted /tmp/planted /dev/shm/planted /tmp/provision.json),
    qw(/tmp/configdrive.json /var/log/bareon.log /tmp/bareon-report.json /run/bareon/planted /root/.netrc),
);
probe 'secrets', 'files', sub { several(marked(@SECRETS)) };
probe 'secrets', 'files by /proc/*/root', sub {
    several(marked(map { my $p = $_; map {"/proc/$p/root$_"} @SECRETS } processes()))
};
probe 'secrets', 'files by /proc/*/cwd', sub {
    several(marked(map { my $p = $_; map { ("/proc/$p/cwd$_", "/proc/$p/cwd/../../../../..$_") } @SECRETS } processes()))
};
probe 'secrets', 'files by old roots', sub {
    several(marked(map { my $r = $_; map {"$r$_"} @SECRETS } qw(/oldroot /newroot /.. /run/bareon /mnt)))
};
probe 'secrets', 'own environment', sub {
    several(grep { $ENV{$_} =~ /\Q$MARK\E/ || /^(OS_|BAREON|SSH_|SUDO|HTTP|http)/ } keys %ENV)
};
probe 'secrets', 'environment of processes', sub {
    several(map {"/proc/$_/environ"} grep { slurp("/proc/$_/environ") =~ /\Q$MARK\E|(?:^|\0)(?:OS|SSH)_/ } processes())
};
probe 'secrets', 'arguments of processes', sub {
    several(map {"/proc/$_/cmdline"} grep { slurp("/proc/$_/cmdline") =~ /\Q$MARK\E|bareon-provision/ } processes())
};
probe 'secrets', 'kernel command line', sub {
    my $text = slurp('/proc/cmdline') . slurp('/proc/bootconfig');
    return ($text =~ /panic=10|console=|BOOT_IMAGE/ ? 1 : 0, $text =~ /(\S*)/);
};
probe 'secrets', 'own descriptors', sub {
    my @found;
    for my $name (names('/proc/self/fd')) {
        my $to = readlink("/proc/self/fd/$name") // next;
        next if $to =~ m{^pipe:|^/dev/null$|^/proc/};
        my @there = stat "/proc/self/fd/$name";
        my @here  = stat $to;
        push @found, "$name -> $to" unless @there && @here && "@there[0, 1]" eq "@here[0, 1]";    # of its own tree
    }
    return several(@found);
};
probe 'secrets', 'files by descriptors', sub {
    my @found;
    for my $process (processes()) {
        for my $name (names("/proc/$process/fd")) {
            my $path = "/proc/$process/fd/$name";
            push @found, $path if -d $path ? grep({ -e "$path/$_" } qw(etc/planted planted)) : marked($path);
        }
    }
    return several(@found);
};
probe 'secrets', 'key of the user', sub {
    for my $ring (-4, -5, -3) {    # of the user, of the user's session, of the session
        my $key = system_call(250, 10, $ring, "user\0", "$MARK\0", -2);
        next if $key < 0;
        my $text = "\0" x 64;
        return (1, "key $key: " . substr $text, 0, 12) if syscall(250, 11, $key, $text, 64) > 0;
    }
    return (0, "$!");
};
probe 'secrets', '/proc/keys', sub { several(slurp('/proc/keys') =~ /(\Q$MARK\E)/g) };
probe 'secrets', 'kernel log', sub {
    my $buffer = "\0" x 65536;
    my ($got, $why) = done(103, 3, $buffer, length $buffer);
    return ($got || grep({ opened($_, O_RDONLY) } qw(/proc/kmsg /dev/kmsg)) ? 1 : 0, $why);
};
probe 'secrets', 'memory of the machine', sub {
    several(grep { slurp($_, 64) ne '' } qw(/proc/kcore /dev/mem /dev/kmem /dev/port /proc/vmcore))
};
probe 'secrets', 'firmware', sub {
    several(grep { slurp($_, 16) ne '' }
            glob('/sys/firmware/qemu_fw_cfg/by_name/*/raw /sys/firmware/qemu_fw_cfg/by_name/*/*/raw'),
            glob('/sys/fs/pstore/*'))
};

# --- processes -------------------------------------------------------------------------------------------------------
probe 'processes', 'seen', sub {
    several(map { my $x = slurp("/proc/$_/comm"); $x =~ s/\s//g; "$_($x)" } strangers())
};
probe 'processes', 'signals', sub { several(grep { kill 0, $_ } strangers()) };
probe 'processes', 'signals by number', sub {
    my %own = map { $_ => 1 } processes();
    return several(grep { !$own{$_} && kill 0, $_ } 2 .. 4096);
};
probe 'processes', 'traced', sub { several(grep { system_call(101, 0x4206, $_ + 0, 0, 0) == 0 } grep { $_ > 1 } strangers()) };
probe 'processes', 'memory', sub { several(grep { opened("/proc/$_/mem", O_RDWR) } strangers()) };
probe 'processes', 'descriptors taken', sub {
    my @found;
    for my $process (grep { $_ > 1 } strangers()) {
        my $file = system_call(434, $process + 0, 0);
        push @found, "$process:1" if $file >= 0 && system_call(438, $file, 1, 0) >= 0;
    }
    return several(@found);
};
probe 'processes', 'limits set', sub {
    several(grep { my $x = "\0" x 16; system_call(302, $_ + 0, 7, 0, $x) == 0 } grep { $_ > 1 } strangers())
};
# The first process of a sandbox is of the ramdisk: who can write to it outlives the sandbox.
probe 'processes', 'first one traced', sub { return done(101, 0x4206, 1, 0, 0) };
probe 'processes', 'first one written to', sub { my $x = opened('/proc/1/mem', O_RDWR); return ($x, $x ? '' : "$!") };
probe 'processes', 'first one written to by vm_writev', sub {
    my $byte = "\0";
    my $vector = pack 'PQ', $byte, 1;
    return call(311, 1, $vector, 1, pack('QQ', 0, 1), 1, 0);
};
# It is busy as long as it runs, and a process that dies a little later than the first one can write to it then.
probe 'processes', 'program of the first one', sub {
    sysopen my $file, '/proc/1/exe', O_RDONLY or return (0, "$!");
    my $status = "\0" x 120;
    syscall 138, fileno $file, $status;
    my $read_only = (unpack 'x80Q', $status)[0] & 1;
    return ($read_only ? 0 : 1, (readlink('/proc/1/exe') // '') . ($read_only ? ', read-only' : ''));
};

# --- disks -----------------------------------------------------------------------------------------------------------
my $MADE = '/tmp/probe-nodes';
probe 'disks', 'names in /dev', sub { several(grep {$_} map { device($_) } below('/dev', qr{^/dev/(pts|fd)/}, 6)) };
for my $place ('/opt/nodes', '/boot/nodes') {
    probe 'disks', "brought by the image in $place", sub {
        several(grep {$_} map { device($_) } below($place, qr/^$/, 1))
    };
}
probe 'disks', 'names of the layout', sub { several(grep { -b } below('/dev', qr{^/dev/(pts|fd)/}, 6)) };
for my $place ('/tmp', '/dev', '/dev/shm', '/run', '/var/tmp', '/boot', '/srv') {
    probe 'disks', "made in $place", sub {
        my ($made, @found) = 0;
        mkdir(my $folder = "$place/.probe-nodes");
        for my $status (map { slurp("/sys/class/block/$_/dev") } sort(names('/sys/class/block'))) {
            my ($major, $minor) = $status =~ /(\d+):(\d+)/ or next;
            $made++ if system_call(133, "$folder/$major-$minor\0", 0060600, $major << 8 | $minor & 0xff) == 0;
            push @found, device("$folder/$major-$minor");
        }
        for my $pair ([1, 1], [1, 4], [10, 237], [10, 236], [10, 234], [1, 11]) {
            my ($major, $minor) = @{$pair};
            $made++ if system_call(133, "$folder/c$major-$minor\0", 0020600, $major << 8 | $minor) == 0;
            push @found, device("$folder/c$major-$minor");
        }
        my ($got, $why) = several(grep {$_} @found);
        unlink glob "$folder/*";
        rmdir $folder;
        return ($got || $made ? 1 : 0, "$made made, opened $why");
    };
}
probe 'disks', 'mounted', sub {
    mkdir(my $point = '/tmp/probe-mount');
    my @found;
    for my $disk (grep { -b } glob('/dev/[svn]* /opt/nodes/* /dev/dm-*')) {
        for my $type (qw(ext4 vfat)) {
            next if system_call(165, "$disk\0", "$point\0", "$type\0", 1, 0);
            push @found, $disk;
            system_call(166, "$point\0", 2);
        }
    }
    return several(@found);
};
probe 'disks', 'swapon',   sub { return call(167, "/nothing\0", 0) };
probe 'disks', 'swapoff',  sub { return call(168, "/nothing\0") };
probe 'disks', 'quotactl', sub { sysopen my $root, '/', O_RDONLY; return call(443, fileno $root, 0x80000200, 0, 0) };
probe 'disks', 'frozen',   sub {
    sysopen my $file, '/', O_RDONLY or return (0, "$!");
    my $flag = pack 'i', 0;
    return (0, 'not tried: it would hang without a sandbox') if strangers();
    my ($got, $why) = call(16, fileno $file, 0xC0045877, $flag);    # FIFREEZE
    system_call(16, fileno $file, 0xC0045878, $flag);
    return ($got, $why);
};

# --- volumes ---------------------------------------------------------------------------------------------------------
probe 'volumes', 'kept one read', sub { several(marked('/srv/planted')) };
probe 'volumes', 'kept one written', sub {
    return (0, 'not there') unless marked('/srv/planted');
    my $x = sysopen my $file, "/srv/by-$caller", O_WRONLY | O_CREAT;
    return ($x ? 1 : 0, $x ? '' : "$!");
};
probe 'volumes', "another image's read", sub { several(marked('/planted', '/opt/other/planted', '/mnt/planted')) };
probe 'volumes', 'uncovered by umount', sub {
    system_call(166, "/srv\0", 2);
    return several(marked('/srv/planted'));
};

# --- ways out --------------------------------------------------------------------------------------------------------
sub outside { several(grep { slurp($_) =~ /\Q$MARK\E/ } qw(/etc/planted /root/.ssh/planted)) }
probe 'ways out', 'chroot and ..', sub {
    mkdir(my $folder = '/tmp/.probe-chroot');
    chroot $folder or return (0, "$!");
    chdir '..' for 1 .. 64;
    chroot '.';
    return outside();
};
probe 'ways out', 'chroot at all', sub { return chroot('/') ? (1, '') : (0, "$!") };
probe 'ways out', 'fchdir to a descriptor', sub {
    for my $name (names('/proc/self/fd'), map {"../../1/fd/$_"} names('/proc/1/fd')) {
        next unless chdir "/proc/self/fd/$name";
        my @found = grep { -e $_ && slurp($_) =~ /\Q$MARK\E/ } map {"$_/etc/planted"} '.', map { '../' x $_ } 1 .. 8;
        return (1, "$name: @found") if @found;
    }
    return (0, '');
};
probe 'ways out', 'open_by_handle_at', sub {
    sysopen my $root, '/', O_RDONLY or return (0, "$!");
    return call(304, fileno $root, pack('LlLL', 8, 1, 2, 0), 0);
};
probe 'ways out', 'mount', sub {
    mkdir(my $point = '/tmp/probe-mount');
    my ($got, $why) = call(165, "none\0", "$point\0", "tmpfs\0", 0, 0);
    system_call(166, "$point\0", 2);
    return ($got, $why);
};
probe 'ways out', 'remount /proc/sys', sub {
    return (0, 'not tried: it would work without a sandbox') if strangers();
    return call(165, "none\0", "/proc/sys\0", "\0", 0x1020, 0);
};
probe 'ways out', 'umount',        sub { return call(166, "/usr\0", 0) };
probe 'ways out', 'pivot_root',    sub { return call(155, "/\0", "/nothing\0") };
probe 'ways out', 'open_tree',     sub { return done(428, -100, "/\0", 1) };
probe 'ways out', 'fsopen',        sub { return done(430, "tmpfs\0", 0) };
probe 'ways out', 'move_mount',    sub { return call(429, -100, "/nothing\0", -100, "/nothing\0", 0) };
probe 'ways out', 'mount_setattr', sub { my $x = "\0" x 32; return call(442, -100, "/nothing\0", 0, $x, 32) };
my %SPACES = (
    mount => 0x20000, cgroup => 0x2000000, uts => 0x4000000, ipc => 0x8000000, user => 0x10000000, pid => 0x20000000,
    net   => 0x40000000,
);
for my $name (sort keys %SPACES) {
    probe 'ways out', "unshare $name", sub { return done(272, $SPACES{$name}) };
}
probe 'ways out', 'clone user', sub {
    my $child = system_call(56, $SPACES{user} | 17, 0, 0, 0, 0);
    POSIX::_exit(0) if $child == 0;
    return ($child > 0 ? 1 : 0, $child > 0 ? '' : "$!");
};
probe 'ways out', 'clone3 user', sub {
    my $child = system_call(435, pack('Q8', $SPACES{user}, 0, 0, 0, 17, 0, 0, 0), 64);
    POSIX::_exit(0) if $child == 0;
    return ($child > 0 ? 1 : 0, $child > 0 ? '' : "$!");
};
probe 'ways out', 'setns of the first process', sub {
    my @found;
    for my $name (names('/proc/1/ns')) {
        sysopen my $file, "/proc/1/ns/$name", O_RDONLY or next;
        push @found, $name if $name !~ /for_children|time/ && system_call(308, fileno $file, 0) == 0;
    }
    return several(@found);
};

# --- network ---------------------------------------------------------------------------------------------------------
sub connected {
    my ($host, $port) = @_;
    socket my $socket, PF_INET, SOCK_STREAM, 0 or return (0, "$!");
    return connect($socket, pack_sockaddr_in($port, inet_aton($host))) ? (1, "$host:$port") : (0, "$!");
}
sub interfaces { return grep { $_ ne 'lo' } slurp('/proc/self/net/dev') =~ /^\s*(\S+?):/mg }
probe 'network', 'a connection',             sub { return connected($SERVER,     873) };
probe 'network', 'a connection to the node', sub { return connected('127.0.0.1', 22) };
probe 'network', 'interfaces',               sub { return several(interfaces()) };
probe 'network', 'a port that others reach', sub {
    socket my $socket, PF_INET, SOCK_STREAM, 0 or return (0, "$!");
    my $bound = bind($socket, pack_sockaddr_in(7777, INADDR_ANY)) && listen $socket, 1;
    return ($bound && interfaces() ? 1 : 0, $bound ? 'bound' : "$!");
};
probe 'network', 'abstract socket of the node', sub {
    socket my $socket, PF_UNIX, SOCK_STREAM, 0 or return (0, "$!");
    return connect($socket, pack('Sa*', AF_UNIX, "\0$MARK")) ? (1, '') : (0, "$!");
};
probe 'network', 'sockets in files', sub {
    my @found;
    for my $path (grep { -S } map { below($_, qr{^/dev/pts}, 4) } qw(/run /tmp /dev /var/run)) {
        for my $type (SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET) {
            socket my $socket, PF_UNIX, $type, 0 or next;
            push @found, $path if connect $socket, pack_sockaddr_un($path);
        }
    }
    return several(@found);
};
probe 'network', 'links by netlink', sub {
    socket my $socket, 16, SOCK_RAW, 0 or return (0, "$!");
    send $socket, pack('LSSLL CCSiLL', 32, 18, 0x301, 1, 0, 0, 0, 0, 0, 0, 0), 0;
    recv $socket, my $text, 65536, 0;
    return several(grep { $_ ne 'lo' } linked($text // ''));
};

sub linked {    # the names in messages of kind RTM_NEWLINK: what else is in them may look like one
    my ($text) = @_;
    my @found;
    for (my $at = 0; $at + 32 <= length $text;) {
        my ($size, $kind) = unpack 'LS', substr $text, $at, 6;
        last if $size < 16;
        for (my $part = $at + 32; $kind == 16 && $part + 4 <= $at + $size;) {
            my ($long, $what) = unpack 'SS', substr $text, $part, 4;
            last if $long < 4;
            push @found, unpack 'Z*', substr $text, $part + 4, $long - 4 if $what == 3;
            $part += ($long + 3) & ~3;
        }
        $at += ($size + 3) & ~3;
    }
    return @found;
}
probe 'network', 'packets', sub {
    socket my $socket, 17, SOCK_RAW, 0x300 or return (0, "$!");
    return (interfaces() ? 1 : 0, 'opened');
};
my %FAMILIES = (vsock => 40, alg => 38, bluetooth => 31, tipc => 30, rds => 21, can => 29, xdp => 44, qrtr => 42);
for my $name (sort keys %FAMILIES) {
    probe 'network', $name, sub {
        for my $type (SOCK_STREAM, SOCK_SEQPACKET, SOCK_RAW, SOCK_DGRAM) {
            return (1, '') if socket my $socket, $FAMILIES{$name}, $type, $name eq 'bluetooth' ? 1 : 0;
        }
        return (0, "$!");
    };
}

# --- kernel ----------------------------------------------------------------------------------------------------------
probe 'kernel', 'init_module',     sub { my $x = "\0" x 64; return call(175, $x, 64, "\0") };
probe 'kernel', 'finit_module',    sub { sysopen my $x, $0, O_RDONLY; return call(313, fileno $x, "\0", 0) };
probe 'kernel', 'delete_module',   sub { return call(176, "probe_nothing\0", 0x800) };
probe 'kernel', 'reboot',          sub { return done(169, 0xfee1dead, 672274793, 0, 0) };    # Ctrl-Alt-Del off
probe 'kernel', 'kexec_load',      sub { return call(246, 0, 0, 0, 0) };
probe 'kernel', 'kexec_file_load', sub { return call(320, -1, -1, 1, "\0", 0) };
probe 'kernel', 'clock', sub {
    my $now = "\0" x 16;
    syscall 228, 0, $now;
    return done(227, 0, $now);
};
probe 'kernel', 'settimeofday', sub { return done(164, pack('qq', time, 0), 0) };
probe 'kernel', 'adjtimex',     sub { my $x = pack('L', 0x4) . "\0" x 204; return call(159, $x) };
probe 'kernel', 'host name',    sub { my $x = (POSIX::uname())[1]; return done(170, $x, length $x) };
probe 'kernel', 'domain name',  sub { return done(171, '(none)', 6) };
probe 'kernel', 'iopl',         sub { return done(172, 3) };
probe 'kernel', 'ioperm',       sub { return done(173, 0x80, 1, 1) };
probe 'kernel', 'acct',         sub { return call(163, 0) };
probe 'kernel', 'bpf',          sub { my $x = pack('L4', 2, 4, 4, 1) . "\0" x 112; return done(321, 0, $x, length $x) };
probe 'kernel', 'perf_event_open', sub {
    my $x = pack('LLQQQQQ', 1, 112, 0, 0, 0, 0, 0) . "\0" x 64;
    return done(298, $x, 0, -1, -1, 0);
};
probe 'kernel', 'io_uring',     sub { my $x = "\0" x 120; return done(425, 1, $x) };
probe 'kernel', 'userfaultfd',  sub { return done(323, 1) };
probe 'kernel', 'fanotify',     sub { return done(300, 0, 0) };
probe 'kernel', 'add_key',      sub { return done(248, "user\0", "probe\0", 'x', 1, -2) };
probe 'kernel', 'request_key',  sub { return call(249, "user\0", "probe\0", 0, 0) };
# Newer than the libraries that make filters.
probe 'kernel', 'open_tree_attr', sub { my $x = "\0" x 32; return done(467, -100, "/\0", 1, $x, 32) };
probe 'kernel', 'keyctl',       sub { return done(250, 0, -4, 1) };
probe 'kernel', 'new session keyring', sub { return done(250, 1, 0) };
probe 'kernel', 'written in /proc', sub {
    several(grep { writable($_) } below('/proc', qr{^/proc/(\d+|self|thread-self|sys|net)(/|$)}, 4))
};
probe 'kernel', 'written in /proc/sys', sub {
    several(grep { writable($_) } map { below("/proc/sys/$_", qr/^$/, 2) } qw(kernel vm fs dev user))
};
probe 'kernel', 'written in /sys', sub {
    my @few = map { glob $_ } qw(/sys/kernel/uevent_helper /sys/power/* /sys/class/block/*/uevent
        /sys/class/block/*/device/delete /sys/bus/pci/rescan /sys/bus/*/drivers_autoprobe /sys/kernel/mm/*/*
        /sys/devices/system/cpu/cpu*/online /sys/module/*/parameters/* /sys/fs/cgroup/* /sys/fs/*/*/*
        /sys/kernel/debug/* /sys/kernel/security/* /sys/class/net/*/* /sys/bus/pci/devices/*/remove);
    return several(grep { -f && writable($_) } @few);
};
probe 'kernel', 'cgroups', sub {
    several(grep {m{/(cgroup\.|release_agent|tasks)}} map { below($_, qr/^$/, 2) } qw(/sys/fs/cgroup /cgroup /run/cgroup))
};
probe 'kernel', 'debugfs and others in /sys', sub {
    several(grep {names($_)} qw(/sys/kernel/debug /sys/kernel/tracing /sys/kernel/security /sys/kernel/config /sys/fs/bpf))
};
# A program of 32 bits numbers its calls otherwise, and a filter may know but one way. It ends with 42.
probe 'kernel', 'calls of 32 bits', sub {
    my $code = "\xb8\x01\0\0\0\xbb\x2a\0\0\0\xcd\x80";
    my $elf = "\x7fELF\1\1\1" . "\0" x 9 . pack('SSLLLLLSSSSSS', 2, 3, 1, 0x8048054, 52, 0, 0, 52, 32, 1, 0, 0, 0)
        . pack('L8', 1, 0, 0x8048000, 0x8048000, 84 + length $code, 84 + length $code, 5, 0x1000) . $code;
    my $path = "$RECORDS/.small";
    sysopen my $file, $path, O_WRONLY | O_CREAT, 0755 or return (0, "$!");
    syswrite $file, $elf;
    close $file;
    my $status = system {$path} $path;
    unlink $path;
    return ($status == 42 << 8 ? 1 : 0, "status $status");
};
probe 'kernel', 'calls of x32', sub { return done(0x40000000 + 39) };

# --- firmware --------------------------------------------------------------------------------------------------------
probe 'firmware', 'variables read', sub {
    several(map {/([^\/]+)$/} grep { slurp($_, 8) ne '' } glob('/sys/firmware/efi/efivars/* /sys/firmware/efi/vars/*/data'))
};
probe 'firmware', 'variable written', sub {
    return (0, 'no such folder') unless -d '/sys/firmware/efi/efivars';
    my $path = '/sys/firmware/efi/efivars/Probe-8be4df61-93ca-11d2-aa0d-00e098032b8c';
    sysopen my $file, $path, O_WRONLY | O_CREAT, 0644 or return (0, "$!");
    my $x = syswrite $file, pack('L', 7) . 'x';
    return ($x ? 1 : 0, $x ? '' : "$!");
};
probe 'firmware', 'variables mounted', sub {
    mkdir(my $point = '/tmp/probe-mount');
    my ($got, $why) = done(165, "none\0", "$point\0", "efivarfs\0", 0, 0);
    system_call(166, "$point\0", 2);
    return ($got, $why);
};

# --- privileges ------------------------------------------------------------------------------------------------------
sub status { my ($name) = @_; my ($x) = slurp('/proc/self/status') =~ /^\Q$name\E:\s*(\S+)/m; return $x // '' }
# chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, audit_write, setfcap
my $NEEDED = 0;
$NEEDED |= 1 << $_ for 0, 1, 3, 4, 5, 6, 7, 8, 10, 29, 31;
probe 'privileges', 'capabilities', sub {
    my $more = (hex(status('CapEff')) | hex(status('CapPrm')) | hex status('CapInh')) & ~$NEEDED;
    return ($more ? 1 : 0, sprintf 'more than files need: %x', $more);
};
probe 'privileges', 'to gain some', sub { return (status('NoNewPrivs') eq '1' ? 0 : 1, status('NoNewPrivs')) };
probe 'privileges', 'no filter',    sub { return (status('Seccomp') eq '2'    ? 0 : 1, status('Seccomp')) };
probe 'privileges', 'real time',    sub { return done(144, 0, 1, pack 'i', 1) };
probe 'privileges', 'priority',     sub { return done(141, 0, 0, -10) };
probe 'privileges', 'real-time disk', sub { return done(251, 1, 0, 1 << 13) };
probe 'privileges', 'last to be killed', sub {
    sysopen my $file, '/proc/self/oom_score_adj', O_WRONLY or return (0, "$!");
    my $x = syswrite $file, "-1000\n";
    return ($x ? 1 : 0, $x ? '' : "$!");
};
probe 'privileges', 'limits raised', sub {
    my @found;
    for my $which (0 .. 15) {
        my $old = "\0" x 16;
        syscall 302, 0, $which, 0, $old;
        my ($soft, $hard) = unpack 'QQ', $old;
        next if $hard == ~0;
        push @found, $which if system_call(302, 0, $which, pack('QQ', $soft, $hard + 1), 0) == 0;
    }
    return several(@found);
};
probe 'privileges', 'core files', sub {
    my $x = "\0" x 16;
    syscall 302, 0, 4, 0, $x;
    return ((unpack 'QQ', $x)[1] > 1 ? 1 : 0, 'limit ' . (unpack 'QQ', $x)[1]);
};
probe 'privileges', 'a file that stays', sub {
    my $path = "$RECORDS/.stays";
    sysopen my $file, $path, O_RDWR | O_CREAT or return (0, "$!");
    my ($got, $why) = done(16, fileno $file, 0x40086602, pack 'L', 0x10);
    system_call(16, fileno $file, 0x40086602, pack 'L', 0);
    unlink $path;
    return ($got, $why);
};
probe 'privileges', "mode of the node's /dev/null", sub {
    my @mine = stat '/dev';
    my @null = stat '/dev/null';
    return (0, 'its own') if $mine[0] == $null[0] && !strangers();
    return chmod($null[2] & 07777, '/dev/null') ? (1, '') : (0, "$!");
};
probe 'privileges', 'mode of its input', sub {
    my @status = stat STDIN;
    return (0, 'a pipe or nothing') unless @status && POSIX::S_ISCHR($status[2]);
    return done(91, 0, $status[2] & 07777);
};
probe 'privileges', 'typing for others', sub {
    my @found;
    for my $path (qw(/dev/tty /dev/console /dev/tty0 /dev/tty1 /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2)) {
        sysopen my $file, $path, O_RDWR | O_NOCTTY | O_NONBLOCK or next;
        push @found, $path if system_call(16, fileno $file, 0x5412, 'x') == 0;
    }
    return several(@found);
};

# --- what ends a run -------------------------------------------------------------------------------------------------
sub note {    # beside the probes
    my ($line) = @_;
    open my $file, '>>', "$RECORDS/$caller" or return;
    syswrite $file, "$line\n";
    return;
}

sub deaf { $SIG{$_} = 'IGNORE' for qw(HUP INT TERM QUIT ALRM USR1 USR2 PIPE); return }

sub fill {    # write to a place until it takes no more
    my ($path) = @_;
    open my $file, '>', $path or return "$path: $!";
    my ($count, $block) = (0, 'x' x (1 << 20));
    while (defined(my $x = syswrite $file, $block)) { $count += $x }
    return "$path: $count bytes, $!";
}

my %FATAL = (
    hang => sub { deaf(); sleep 1 while 1 },
    bomb => sub {
        deaf();
        my $count = 0;
        while ($count < 20_000) {
            my $child = fork // last;
            if (!$child) { sleep 3600; POSIX::_exit(0) }
            $count++;
        }
        note("bomb\tprocesses\t" . ($count < 20_000 ? 0 : 1) . "\t$count, $!");
        exit 9;
    },
    memory => sub { my @all; push @all, 'x' x (16 << 20) while @all < 1024; exit 9 },
    tmpfs  => sub { note("tmpfs\t$_\t0\t" . fill("$_/filled")) for qw(/tmp /run /dev/shm /dev); exit 9 },
    large => sub { fill('/var/filled') },    # by a signal
    disk  => sub {    # in files that are small enough
        for my $number (0 .. 9999) {
            sysopen my $file, "/var/filled$number", O_WRONLY | O_CREAT or last;
            my $block = 'x' x (4 << 20);
            defined syswrite $file, $block or last for 1 .. 4;
        }
        exit 9;
    },
    inodes => sub { my $n = 0; $n++ while sysopen my $file, "$RECORDS/i$n", O_WRONLY | O_CREAT; exit 9 },
    words  => sub { print STDERR "\e]0;title\a\e[2J\e[31mred\r$caller says no\n"; exit 9 },
    flood  => sub { my $x = ("\e]0;x\a\e[2J" x 64 . "\n") x 1024; print $x while 1 },
    left   => sub {
        if (!(fork // 1)) {
            POSIX::setsid();
            exit if fork;
            deaf();
            $0 = 'left-behind';
            if (!fork) { $0 = 'left-behind'; sleep 1 while 1 }
            open my $file, '>', "$RECORDS/left";
            socket my $socket, PF_INET, SOCK_STREAM, 0;
            setsockopt $socket, SOL_SOCKET, SO_REUSEADDR, 1;
            bind $socket, pack_sockaddr_in(7778, INADDR_ANY) and listen $socket, 1;
            while (1) { syswrite $file, time . "\n"; select undef, undef, undef, 0.05 }
        }
    },
    # bareon writes these next, or reads them.
    links => sub {
        for my $path (qw(/etc/fstab /boot/grub/grub.cfg /boot/grub/grubenv /etc/default/grub /etc/machine-id
            /usr/local/sbin/bareon-boot /etc/hostname)) {
            unlink $path;
            symlink '/etc/planted', $path;
        }
        for my $path (qw(/etc/bareon /etc/cloud)) { rename $path, "$path.old"; symlink '/etc', $path }
    },
    parents => sub { rename '/etc', '/etc.old'; symlink '/proc/1/root/etc', '/etc' },
    boot    => sub {
        rename '/boot/grub', '/boot/grub.old';
        symlink '/run', '/boot/grub';
    },
    fifo => sub {
        for my $path (qw(/etc/fstab /etc/default/grub /boot/grub/grub.cfg /etc/bareon/initramfs /etc/os-release)) {
            unlink $path;
            POSIX::mkfifo($path, 0600);
        }
    },
    sparse => sub {
        for my $path (qw(/etc/fstab /etc/default/grub /boot/grub/grub.cfg /etc/bareon/initramfs)) {
            open my $file, '>', $path or next;
            truncate $file, 7 << 30;  # what the sandbox lets it
        }
    },
);

# --- all of it -------------------------------------------------------------------------------------------------------
sub tried {    # in a process of its own: some of it changes who asks
    my ($code) = @_;
    pipe my $reader, my $writer or return (0, "no pipe: $!");
    my $child = fork // return (0, "no process: $!");
    if (!$child) {
        close $reader;
        alarm 10;
        my ($got, $why) = eval { $code->() };
        ($got, $why) = (0, "died: $@") if $@;
        $why =~ s/[^ -~]/?/g if defined $why;
        syswrite $writer, ($got ? 1 : 0) . "\t" . substr($why // '', 0, 300);
        POSIX::_exit(0);
    }
    close $writer;
    my $line = do { local $/; <$reader> };
    waitpid $child, 0;
    return split /\t/, $line // "0\tended by signal " . ($? & 127), 2;
}

mkdir $RECORDS;
my @fatal = map {/^([a-z]+):\Q$caller\E$/} split ' ', slurp('/etc/probes');
if (slurp('/etc/probes') !~ /^quiet/ && !-e "$RECORDS/$caller") {    # once is enough: grub-probe is called often
    open my $record, '>', "$RECORDS/$caller" or die "$RECORDS/$caller: $!\n";
    for my $entry (@PROBES) {
        my ($group, $name, $code) = @{$entry};
        my ($got, $why) = tried($code);
        syswrite $record, join("\t", $group, $name, $got // 0, $why // '') . "\n";
    }
}
for my $kind (@fatal) {
    note("fatal\t$kind\t0\tbegun");
    $FATAL{$kind}->();
}
