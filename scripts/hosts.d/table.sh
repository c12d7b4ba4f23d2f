# shellcheck shell=bash
# Reads the table: lines "key value", a row begins with "host". A key that is repeated adds a line to its value. A key
# such as status@11 takes the place of the plain one on that guest.

declare -a row_names
declare -A row_fields

load_table() {
	local key value known=' host guest once as session boot cold setup run status expect doctor '
	row_names=()
	row_fields=()
	while read -r key value; do
		[[ -n $key && $key != '#'* ]] || continue
		[[ $known == *" ${key%@*} "* ]] || { echo "hosts: the table has no key $key" >&2; exit 2; }
		if [[ $key == host ]]; then
			row_names+=("$value")
			continue
		fi
		local at="$((${#row_names[@]} - 1)).$key"
		row_fields[$at]=${row_fields[$at]+${row_fields[$at]}$'\n'}$value
	done <"$1"
}

# field ROW KEY [DEFAULT] on $guest
field() {
	printf '%s' "${row_fields[$1.$2@$guest]-${row_fields[$1.$2]-${3-}}}"
}

# rows_of GUEST passes on those of the row numbers on standard input that have a meaning there, and of those that say
# the same on each guest only the first guest's.
rows_of() {
	local row
	while read -r row; do
		[[ " ${row_fields[$row.guest]-$1} " == *" $1 "* ]] || continue
		[[ -z ${row_fields[$row.once]-} || $1 == "${guests%%,*}" || -n ${SBX_HOSTS_ALL-} ]] || continue
		echo "$row"
	done
}

# matching_rows PATTERN… prints the numbers of the rows whose names match one of the shell patterns; all without any.
matching_rows() {
	local number pattern
	for number in "${!row_names[@]}"; do
		for pattern in "${@:-*}"; do
			# shellcheck disable=SC2053 # a pattern is what it is
			[[ ${row_names[number]} != $pattern ]] || { echo "$number"; break; }
		done
	done
}
