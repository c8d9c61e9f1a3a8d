# Sourced by the scripts beside it: says what is not checked so that nobody overlooks it.
loud() { printf '\n!!!!!!!! %s !!!!!!!!\n\n' "$*" >&2; }
