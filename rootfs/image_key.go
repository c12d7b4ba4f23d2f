package rootfs

import (
	"fmt"
	"hash/fnv"
	"os"
	"strings"
)

// fits reports whether an image was made by this version of the lists, for
// these ids.
func (i *ImageInfo) fits(req ImageRequest) bool {
	return i.Format == imageFormat && i.Name == req.Name && i.Maker == maker(req.Name) &&
		i.Owner.Single == req.Owner.Single &&
		i.Owner.HostUID == req.Owner.HostUID && i.Owner.HostGID == req.Owner.HostGID
}

func (r ImageRequest) hostPath() string {
	if r.Host == "" {
		return "/"
	}
	return r.Host
}

// variant is the first half of a key.
func (o Ownership) variant() string {
	if o.Single {
		return "single-"
	}
	return "mapped-"
}

// key names the image that these contents make for this owner.
func (c *contents) key(o Ownership) string {
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%d %d %s", o.HostUID, o.HostGID, c.digest)
	return fmt.Sprintf("%s%s%016x", o.variant(), c.digest, sum.Sum64())
}

// maker identifies the data by which an image is made; other lists or generated
// texts make other images of the same host.
func maker(name string) uint32 {
	list := ""
	switch name {
	case ImageBase:
		list = baseList
	case ImageHost:
		list = hostList
	}
	// By hand, and not by a package whose tables would be made at each start.
	sum := uint64(fnvOffset)
	for _, text := range [...]string{list, nsswitchConf, resolvConf, profile, bashrc} {
		for i := range len(text) {
			sum = mix(sum, uint64(text[i]))
		}
	}
	return uint32(sum)
}

// keysOf lists the images of one variant in dir, the images of one name.
func keysOf(dir *os.File, o Ownership) ([]string, error) {
	names, err := listNames(dir)
	if err != nil {
		return nil, err
	}
	keys := names[:0]
	for _, name := range names {
		if strings.HasPrefix(name, o.variant()) {
			keys = append(keys, name)
		}
	}
	return keys, nil
}
