#!/bin/sh
# Fill /etc/nginx/templates/*.template into /etc/nginx/conf.d. Only variables that the environment has are replaced: nginx's
# own ($host and so on) stay, and so does the name of one that nobody set.
set -e
names=$(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/${\1}/p' | tr '\n' ' ')
for template in /etc/nginx/templates/*.template; do
    [ -f "$template" ] || continue
    output="/etc/nginx/conf.d/$(basename "$template" .template)"
    echo "20-envsubst-on-templates.sh: Running envsubst on $template to $output"
    envsubst "$names" < "$template" > "$output"
done
