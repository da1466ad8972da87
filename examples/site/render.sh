#!/usr/bin/env bash
# Renders pages/*.txt into public/*.html. A page whose text was rendered before is taken from
# .rendered, which the pipeline keeps between runs.
set -euo pipefail
mkdir -p .rendered public "$HOME/.render-stats"

render() {
    local title
    title=$(head -n 1 "$1")
    printf '<!doctype html>\n<title>%s</title>\n<h1>%s</h1>\n' "$title" "$title"
    # A word in brackets is a link to the page of that name.
    tail -n +2 "$1" | sed -e 's/\[\([a-z]*\)\]/<a href="\1.html">\1<\/a>/g'
}

fresh=0 kept=0
for page in pages/*.txt; do
    name=$(basename "$page" .txt)
    sum=$(sha256sum "$page" render.sh | sha256sum | cut -c 1-16)
    if [ -f ".rendered/$sum" ]; then
        kept=$((kept + 1))
    else
        render "$page" > ".rendered/$sum"
        fresh=$((fresh + 1))
    fi
    cp ".rendered/$sum" "public/$name.html"
done
echo "$fresh rendered, $kept kept" | tee "$HOME/.render-stats/last"
