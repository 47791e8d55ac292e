"""What Linux says of processes, and the counts between functions and ports."""

import os
import sys

import pytest
from tests.bench import proc

STAT = "4242 (name) with (spaces) S 1 77 77 0 -1 4194304 100 0 0 0 250 50 7 8 20 0 5 0 12345 1000 200"
STATUS = "Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t  123 kB\nVmRSS:\t   99 kB\nThreads:\t1\n"


def test_a_stat_line_is_read_whatever_the_process_is_called() -> None:
    assert proc.Stat.parse(STAT) == proc.Stat(pid=4242, parent=1, group=77, cpu_ticks=300)


def test_what_is_no_stat_line_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a line of /proc/PID/stat"):
        proc.Stat.parse("4242 (python) S 1")


def test_a_size_is_in_bytes_and_a_missing_one_is_said() -> None:
    assert proc.field_bytes(STATUS, "VmHWM") == 123 * 1024
    with pytest.raises(ValueError, match="no field VmSwap"):
        proc.field_bytes(STATUS, "VmSwap")


def test_the_processor_is_named_where_the_machine_names_it() -> None:
    assert proc.cpu_model("processor\t: 0\nmodel name\t: A CPU @ 2 GHz\n") == "A CPU @ 2 GHz"
    assert proc.cpu_model("processor\t: 0\n") == "unknown"


@pytest.mark.skipif(sys.platform != "linux", reason="NOT RUN: /proc is Linux's")
def test_the_group_of_this_process_uses_memory_and_a_group_that_is_none_is_said() -> None:
    used = proc.of_group(os.getpgrp())
    assert used.peak_bytes >= used.now_bytes > 0
    with pytest.raises(ProcessLookupError, match="no process of group"):
        proc.of_group(2**30)
