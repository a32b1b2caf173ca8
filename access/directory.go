package access

import "slices"

// Directory is all people, in an order that finds those who have an attribute
// at once. It never changes, and may be shared.
type Directory struct {
	people []Person
	byID   map[string]int
	// having are the indexes of people by attribute and value.
	having map[attribute][]int
	// human is, for each person, the index of the first entry of the same human.
	human []int
	// twice are the humans who have more than one entry.
	twice map[int]bool
	// addresses are the first entries by address, without "+tag".
	addresses map[string]int
	// byAddress are the indexes by main address and alias.
	byAddress map[string]int
}

type attribute struct{ name, value string }

// NewDirectory makes a directory of people.
func NewDirectory(people []Person) *Directory {
	d := &Directory{people: people, byID: make(map[string]int, len(people)), having: make(map[attribute][]int, len(people)), human: make([]int, len(people)), twice: map[int]bool{},
		addresses: make(map[string]int, len(people)), byAddress: make(map[string]int, len(people))}
	for i, p := range people {
		d.byID[p.ID] = i
		for _, name := range p.attributes() {
			for _, value := range (Condition{Attribute: name}).have(p) {
				key := attribute{name, value}
				if at := d.having[key]; len(at) == 0 || at[len(at)-1] != i {
					d.having[key] = append(at, i)
				}
			}
		}
		for _, a := range append([]string{p.Email}, p.Aliases...) {
			if a == "" {
				continue // nobody's address
			}
			if _, taken := d.byAddress[NormalEmail(a)]; !taken || a == p.Email {
				d.byAddress[NormalEmail(a)] = i
			}
		}
		d.human[i] = i
		for _, a := range p.addresses() {
			first, known := d.addresses[a]
			if !known {
				d.addresses[a] = i
				continue
			}
			d.join(i, first)
		}
	}
	for i := range d.human {
		if d.human[i] = d.root(i); d.human[i] != i {
			d.twice[d.human[i]] = true
		}
	}
	return d
}

// join makes two entries one human.
func (d *Directory) join(i, k int) {
	a, b := d.root(i), d.root(k)
	d.human[max(a, b)] = min(a, b)
}

func (d *Directory) root(i int) int {
	for d.human[i] != i {
		i = d.human[i]
	}
	return i
}

// attributes are the names of what a person has.
func (p Person) attributes() []string {
	names := []string{"group", "email"}
	for name := range p.Attributes {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// People are all entries; nobody may change them.
func (d *Directory) People() []Person { return d.people }

// Person finds an entry by id.
func (d *Directory) Person(id string) (Person, bool) {
	i, ok := d.byID[id]
	if !ok {
		return Person{}, false
	}
	return d.people[i], true
}

// ByAddress finds an entry by its main address or an alias.
func (d *Directory) ByAddress(email string) (Person, bool) {
	i, ok := d.byAddress[NormalEmail(email)]
	if !ok {
		return Person{}, false
	}
	return d.people[i], true
}

// who are the indexes of the people who have one of the values.
func (d *Directory) who(name string, values ...string) (list []int) {
	for _, value := range values {
		if name == "email" {
			value = NormalEmail(value)
		}
		list = append(list, d.having[attribute{name, value}]...)
	}
	return list
}

// Entries are the ids of all entries of one human, that one's among them.
func (d *Directory) Entries(id string) []string {
	at, ok := d.byID[id]
	if !ok {
		return []string{id}
	}
	var list []string
	for i, human := range d.human {
		if human == d.human[at] {
			list = append(list, d.people[i].ID)
		}
	}
	return list
}
