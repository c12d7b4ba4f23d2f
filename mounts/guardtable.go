package mounts

// GuardRule names files that a program of the host obeys by itself, sooner or
// later, without the user asking for anything that lies in the tree: a shell
// on entering a directory or starting up, any git command, an editor on
// opening the folder, a build tool on any command. Files that are obeyed only
// when the user builds or runs the project (Makefile, package.json, build.rs,
// conftest.py, the program itself) are not in the table: changing them is
// what most programs in a shared tree are there for.
type GuardRule struct {
	// Names are file names, or "directory/name" for two levels.
	Names  []string
	Reason string
	// Reserve has a placeholder directory made for names that are missing at
	// the top of the tree. Only directories: an empty one is invisible to
	// git, where an empty file could be committed by mistake.
	Reserve bool
}

// GuardRules returns the table. Repositories, which have rules of their own
// for what lies in .git, are not part of it.
func GuardRules() []GuardRule {
	return []GuardRule{
		{
			Names:   []string{".vscode", ".idea"},
			Reason:  "the editor starts tasks and programs that are set here when the folder is opened",
			Reserve: true,
		},
		{
			Names:  []string{".devcontainer", ".zed", ".fleet", ".cursor", ".claude", ".mcp.json", ".nova"},
			Reason: "the editor or assistant starts programs that are set here",
		},
		{
			Names:  []string{".exrc", ".vimrc", ".nvimrc", ".nvim.lua", ".lvimrc", ".dir-locals.el", ".emacs", ".emacs.d", ".vim"},
			Reason: "the editor reads commands from here",
		},
		{
			Names: []string{
				".husky", ".githooks", ".pre-commit-config.yaml", ".overcommit.yml",
				"lefthook.yml", ".lefthook.yml", "lefthook.yaml", ".lefthook.yaml",
			},
			Reason: "git hooks are read from here",
		},
		{
			Names: []string{
				".envrc", ".direnv", ".rvmrc", ".autoenv", ".autoenv.zsh",
				"mise.toml", ".mise.toml", ".mise", ".tool-versions",
			},
			Reason: "the shell reads it on entering the directory",
		},
		{
			Names: []string{
				".cargo", ".mvn", ".bazelrc", ".npmrc", ".yarnrc", ".yarnrc.yml", ".yarn", ".pnpmfile.cjs",
				".bundle", ".gradle", ".gdbinit", ".lldbinit", ".pdbrc", ".Rprofile", ".irbrc", ".pryrc",
			},
			Reason: "a build tool, debugger or interpreter loads it with any command in the directory",
		},
		{
			Names: []string{
				".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases", ".profile",
				".zshrc", ".zshenv", ".zprofile", ".zlogin", ".zlogout", ".oh-my-zsh", ".kshrc", ".mkshrc",
				".cshrc", ".tcshrc", ".login", ".logout", ".inputrc", ".config/fish",
				".xinitrc", ".xsession", ".xsessionrc", ".xprofile", ".pam_environment",
			},
			Reason: "a shell or the login reads it at each start",
		},
		{
			Names: []string{
				".config/autostart", ".config/systemd", ".config/environment.d", ".config/git", ".config/nvim",
				".config/plasma-workspace", ".config/kitty", ".config/alacritty", ".config/sway", ".config/i3", ".config/hypr",
				".local/bin", ".local/share/systemd", ".local/share/applications", ".local/share/dbus-1",
				".local/share/nautilus", ".local/share/kservices5",
			},
			Reason: "the session starts programs from here",
		},
		{
			Names: []string{
				".ssh", ".gnupg", ".gitconfig", ".git-credentials", ".netrc", ".tmux.conf", ".screenrc",
				".docker", ".kube", ".aws", ".config/gcloud", ".config/containers", ".password-store",
				".forward", ".procmailrc", ".mailcap", ".mailrc", ".muttrc", ".crontab", ".condarc", ".pip", ".config/pip",
			},
			Reason: "keys, logins and commands of programs that act as the user",
		},
	}
}
