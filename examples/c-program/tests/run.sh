#!/bin/sh
# Usage: run.sh PROGRAM. Prints one line per case, exits with 1 if any failed.
program=$1
failed=0

check() { # check EXPECTED WORD...
    expected=$1
    shift
    actual=$("$program" "$@" 2>&1)
    if [ "$actual" = "$expected" ]; then
        echo "ok      $*"
    else
        echo "FAILED  $*: expected '$expected', got '$actual'"
        failed=1
    fi
}

check 20 2 3 + 4 '*'
check -1.5 3 2 / 3 -
check 0.25 1 4 /
check "rpn: word 3 '/': division by zero" 1 0 /
check "rpn: word 1 '+': not enough numbers" +
check "rpn: word 2 'two': neither a number nor an operator" 1 two +
check "rpn: word 2 '2': numbers are left over" 1 2
exit $failed
